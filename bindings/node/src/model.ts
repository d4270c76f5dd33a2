// A loaded model: what there is to know about it, its vocabulary and chat template, and the contexts made from it.

import { fileURLToPath } from "node:url";
import { type Backend, Status, backendName, backends, constants } from "./abi.js";
import { Listener, addressOf } from "./callbacks.js";
import type { ChatMessage } from "./chat.js";
import { Context, type ContextOptions, type KvType, createContext, kvTypes } from "./context.js";
import { Detokenizer } from "./detokenizer.js";
import { AbortError, DgemmaError, choice, whole } from "./errors.js";
import { Handle } from "./handle.js";
import { type MemoryInfo, memoryInfo } from "./memory.js";
import { type Argument, Native } from "./native.js";
import { type SamplerDefaults, samplerDefaults } from "./sampler.js";
import { Struct } from "./struct.js";
import { type Tokens, cString, tokenArray, utf8 } from "./tokens.js";

/** How to load a model. */
export interface LoadOptions {
  /** Gives up loading; it then rejects with an AbortError. */
  signal?: AbortSignal | undefined;
  /** "cpu"; "cuda": an NVIDIA GPU; or "reference": slow and plain, what the others are checked against. */
  backend?: Backend | undefined;
  /** Which GPU "cuda" uses, from 0: entry 1 + device of `devices()`. */
  device?: number | undefined;
  /**
   * How many layers "cuda" keeps on the GPU, the last ones; left out, or more than there are: all. The matrices of the others
   * stay in page-locked host memory and are copied over, ahead of their use, in every pass: texts are the same, and a step
   * takes as long as the link to the GPU needs for those bytes. Other backends refuse any number.
   */
  nGpuLayers?: number | undefined;
  /**
   * How many layers, the first ones, have their experts in host memory, in the same way; left out or 0: none. Of layers that
   * are not on the GPU anyway nothing changes. Other backends refuse anything but 0.
   */
  nCpuExperts?: number | undefined;
  /**
   * The context that "cuda" must leave room for; left out: 8192 tokens, or the model's limit if that is less, in f32. Where
   * weights and such a context do not fit together, the error (status OutOfMemory) says what would fit. Other contexts can
   * be made later, as long as there is memory.
   */
  plannedContext?: { size?: number | undefined; kvType?: KvType | undefined } | undefined;
  /** Threads of the model's own pool, 0 to 1024; 0 or left out: one per available core. */
  threads?: number | undefined;
  /** Read the file instead of mapping it, so that it may be changed or removed afterwards. */
  read?: boolean | undefined;
  /** Keep the file's bytes in memory, never pushed out by the system. Needs the right to lock that much. */
  lock?: boolean | undefined;
  /**
   * Compute all products in f32. Else quantized weights are multiplied in 8-bit integers (on GPUs of data centers in bf16, but
   * for experts), 16-bit floats in bf16: faster.
   */
  exact?: boolean | undefined;
  /** The instruction set to use, for comparisons; left out: the best of the processor. */
  cpuLevel?: keyof typeof cpuLevels | undefined;
  /** Hears how far loading is, 0 to 1; `false` gives up. */
  onProgress?: ((fraction: number) => unknown) | undefined;
  /** The libdgemma to use; left out: DGEMMA_LIBRARY, the package's own, or the system's. */
  library?: string | undefined;
}

/** The sizes of a model. */
export interface ModelInfo {
  /** Tokens in the vocabulary: ids are below it. */
  readonly vocabSize: number;
  /** Positions of a canvas. */
  readonly canvasLength: number;
  /** Most positions of a context. */
  readonly contextLength: number;
  readonly layers: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  /** Experts of each layer. */
  readonly experts: number;
  /** Experts chosen for each token. */
  readonly expertsUsed: number;
  readonly backend: Backend;
  /** Weights in all. */
  readonly parameters: number;
  /** Bytes of the file, or of all files of a split set. */
  readonly fileBytes: number;
  /** Bytes of the tensors in them. */
  readonly tensorBytes: number;
  /** Files: 1, or the parts of a split set. */
  readonly files: number;
  readonly tensors: number;
}

/** What a token is. */
export interface TokenAttributes {
  readonly kind: "normal" | "unknown" | "control" | "userDefined" | "unused" | "byte";
  /** Whether it ends an answer. */
  readonly end: boolean;
}

/** How to encode a text. */
export interface TokenizeOptions {
  /** Put the token that begins a text in front. A rendered chat has its own. */
  addBos?: boolean | undefined;
  /** Control tokens spelled in the text become those tokens. For rendered chats; user input should stay text. */
  parseSpecial?: boolean | undefined;
}

const cpuLevels = {
  best: constants.DGEMMA_CPU_BEST,
  scalar: constants.DGEMMA_CPU_SCALAR,
  avx2: constants.DGEMMA_CPU_AVX2,
  avx512: constants.DGEMMA_CPU_AVX512,
  avx512Vnni: constants.DGEMMA_CPU_AVX512_VNNI,
};

const kinds = new Map<number, TokenAttributes["kind"]>([
  [constants.DGEMMA_TOKEN_NORMAL, "normal"],
  [constants.DGEMMA_TOKEN_UNKNOWN, "unknown"],
  [constants.DGEMMA_TOKEN_CONTROL, "control"],
  [constants.DGEMMA_TOKEN_USER_DEFINED, "userDefined"],
  [constants.DGEMMA_TOKEN_UNUSED, "unused"],
  [constants.DGEMMA_TOKEN_BYTE, "byte"],
]);

const roles = {
  bos: constants.DGEMMA_SPECIAL_BOS,
  eos: constants.DGEMMA_SPECIAL_EOS,
  unknown: constants.DGEMMA_SPECIAL_UNKNOWN,
  padding: constants.DGEMMA_SPECIAL_PADDING,
  mask: constants.DGEMMA_SPECIAL_MASK,
};

/**
 * A loaded model. Any number of contexts may be made from it and work at once. What is made from it stays usable after
 * `close()`: memory goes back when the last of them is closed.
 */
export class Model {
  /** Its sizes. */
  readonly info: ModelInfo;
  /** @internal */
  readonly native: Native;
  /** @internal */
  readonly handle: Handle;

  /** Loads a GGUF file, or a split set by its first part. The file must not be changed meanwhile, unless `read` is set. */
  static async load(path: string | URL, options: LoadOptions = {}): Promise<Model> {
    const { signal } = options;
    if (signal?.aborted) throw new AbortError(signal.reason);
    const native = Native.open(options.library);
    const file = cString("path", path instanceof URL ? fileURLToPath(path) : path);
    const listener = new Listener({
      onProgress: (fraction) => !signal?.aborted && options.onProgress?.(fraction),
    });
    const params = loadParams(native, options, listener);
    const out = new BigUint64Array(1);
    try {
      await listener.during(() => native.backgroundWithText("dgemma_model_load", params, [file, params.bytes, out]));
    } catch (error) {
      const given = signal?.aborted && error instanceof DgemmaError && error.status === "CANCELLED";
      throw given ? new AbortError(signal.reason) : error;
    }
    return new Model(native, out[0]!);
  }

  private constructor(native: Native, pointer: bigint) {
    this.native = native;
    this.handle = new Handle(this, "model", pointer, (model) => native.plain("dgemma_model_free", model));
    this.info = describe(native, pointer);
  }

  /** Says which model it is: the same for a file and its split form, another one after requantizing. */
  fingerprint(): bigint {
    return this.native.create("dgemma_model_fingerprint", this.handle.pointer);
  }

  /** What memory the model takes; its contexts add theirs. */
  memory(): MemoryInfo {
    return memoryInfo(this.native.report("dgemma_model_memory", "dgemma_memory", this.handle.pointer));
  }

  /** Makes an empty context and allocates its memory. */
  createContext(options: ContextOptions = {}): Promise<Context> {
    return createContext(this, options);
  }

  /** The keys of the file's metadata, in file order. */
  metadataKeys(): string[] {
    const { native, handle } = this;
    const count = native.plain<number>("dgemma_model_metadata_count", handle.pointer);
    return Array.from({ length: count }, (_, i) => native.text("dgemma_model_metadata_key", handle.pointer, i));
  }

  /** The value of a key of the file's metadata: a string as it is, anything else as JSON. */
  metadata(key: string): string | undefined {
    const name = cString("key", key);
    return unlessMissing(() => this.native.text("dgemma_model_metadata_value", this.handle.pointer, name));
  }

  /** Encodes a text. */
  tokenize(text: string, options: TokenizeOptions = {}): Uint32Array {
    const { args, tokens, length } = tokenizing(text, options);
    this.native.call("dgemma_model_tokenize", this.handle.pointer, ...args);
    return tokens.slice(0, Number(length[0]));
  }

  /** As {@link tokenize}, off the event loop: for long texts. */
  async tokenizeAsync(text: string, options: TokenizeOptions = {}): Promise<Uint32Array> {
    const { args, tokens, length } = tokenizing(text, options);
    const status = await this.handle.use((model) => this.native.background("dgemma_model_tokenize", [model, ...args]));
    // Its error text stayed on the thread of the call. It fails here as well, with the text.
    if (status !== Status.OK) return this.tokenize(text, options);
    return tokens.slice(0, Number(length[0]));
  }

  /** Decodes tokens. `special`: show control tokens, which else are left out. */
  detokenize(tokens: Tokens, options: { special?: boolean } = {}): string {
    const ids = tokenArray("tokens", tokens);
    const flags = options.special ? constants.DGEMMA_DETOKENIZE_SPECIAL : 0;
    return this.native.text("dgemma_model_detokenize", this.handle.pointer, ids, ids.length, flags);
  }

  /** A decoder for text that arrives bit by bit. */
  createDetokenizer(options: { special?: boolean } = {}): Detokenizer {
    return new Detokenizer(this.native, this.handle.pointer, options.special ?? false);
  }

  /** The text of one token as the vocabulary spells it: spaces as U+2581, bytes as "<0x41>". */
  tokenPiece(token: number): string {
    return this.native.text("dgemma_token_piece", this.handle.pointer, id(token));
  }

  /** What a token is. */
  tokenAttributes(token: number): TokenAttributes {
    const out = new Uint32Array(1);
    this.native.call("dgemma_token_attributes", this.handle.pointer, id(token), out);
    const bits = out[0]!;
    const end = (bits & constants.DGEMMA_TOKEN_END) !== 0;
    return { kind: kinds.get(bits & ~constants.DGEMMA_TOKEN_END) ?? "unused", end };
  }

  /** Whether a token ends an answer; `false` if there is no such token. */
  isEndToken(token: number): boolean {
    return this.native.plain<number>("dgemma_token_is_end", this.handle.pointer, id(token)) !== 0;
  }

  /** The token with exactly this text, spelled as `tokenPiece()` spells it. */
  findToken(piece: string): number | undefined {
    const bytes = utf8("piece", piece);
    return this.#token("dgemma_token_find", bytes, bytes.length);
  }

  /** The token with a role, if the vocabulary has one. */
  specialToken(role: "bos" | "eos" | "unknown" | "padding" | "mask"): number | undefined {
    return this.#token("dgemma_model_special_token", choice("role", role, roles));
  }

  /**
   * Renders a conversation through the model's chat template. Tokenize the result with `parseSpecial` and without
   * `addBos`. `addGenerationPrompt` (on, if left out): end where the model's answer begins.
   */
  renderChat(
    messages: readonly ChatMessage[],
    options: { tools?: readonly unknown[] | undefined; addGenerationPrompt?: boolean } = {},
  ): string {
    const flags = (options.addGenerationPrompt ?? true) ? constants.DGEMMA_CHAT_ADD_GENERATION_PROMPT : 0;
    const tools = options.tools ? json("tools", options.tools) : null;
    return this.native.text("dgemma_chat_render", this.handle.pointer, json("messages", messages), tools, flags);
  }

  /** The sampler's numbers, as the model has them. */
  samplerDefaults(): SamplerDefaults {
    return samplerDefaults(this.native, this.handle.pointer);
  }

  /** Frees the model, or has the last call that uses it do so. Resolves when it is done. */
  close(): Promise<void> {
    return this.handle.close();
  }

  [Symbol.dispose](): void {
    void this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #token(name: "dgemma_token_find" | "dgemma_model_special_token", ...args: (number | Buffer)[]): number | undefined {
    const out = new Uint32Array(1);
    return unlessMissing(() => {
      this.native.call(name, this.handle.pointer, ...args, out);
      return out[0];
    });
  }
}

/** Arguments behind the model, and where the tokens will be. */
function tokenizing(
  text: string,
  options: TokenizeOptions,
): { args: Argument[]; tokens: Uint32Array; length: BigUint64Array } {
  const bytes = utf8("text", text);
  const flags =
    (options.addBos ? constants.DGEMMA_TOKENIZE_ADD_BOS : 0) +
    (options.parseSpecial ? constants.DGEMMA_TOKENIZE_PARSE_SPECIAL : 0);
  const tokens = new Uint32Array(bytes.length + 2); // always enough
  const length = new BigUint64Array(1);
  return { args: [bytes, bytes.length, flags, tokens, tokens.length, length], tokens, length };
}

function loadParams(native: Native, options: LoadOptions, listener: Listener): Struct<"dgemma_model_params"> {
  const params = new Struct("dgemma_model_params");
  native.call("dgemma_model_params_init", params.bytes, params.bytes.length);
  params.set("backend", choice("backend", options.backend ?? "cpu", backends));
  params.set("threads", whole("threads", options.threads ?? 0, 0xffff_ffff));
  const memory = (options.read ? constants.DGEMMA_MEMORY_READ : 0) + (options.lock ? constants.DGEMMA_MEMORY_LOCK : 0);
  params.set("memory", memory);
  params.set("exact", options.exact ? 1 : 0);
  params.set("device", whole("device", options.device ?? 0, 0xffff_ffff));
  const layers = options.nGpuLayers;
  const none = constants.DGEMMA_GPU_LAYERS_NONE;
  params.set("n_gpu_layers", layers === 0 ? none : whole("nGpuLayers", layers ?? 0, none - 1));
  params.set("n_cpu_experts", whole("nCpuExperts", options.nCpuExperts ?? 0, 0xffff_ffff));
  const { size, kvType } = options.plannedContext ?? {};
  params.set("planned_context_size", whole("plannedContext.size", size ?? 0, Number.MAX_SAFE_INTEGER));
  params.set(
    "planned_kv_type",
    kvType ? choice("plannedContext.kvType", kvType, kvTypes) : constants.DGEMMA_KV_DEFAULT,
  );
  params.set("cpu_level", choice("cpuLevel", options.cpuLevel ?? "best", cpuLevels));
  if (options.onProgress || options.signal) {
    params.set("on_progress", addressOf("onProgress"));
    params.set("user_data", listener.id);
  }
  return params;
}

function describe(native: Native, model: bigint): ModelInfo {
  const c = native.report("dgemma_model_describe", "dgemma_model_info", model);
  return {
    vocabSize: c.vocab_size,
    canvasLength: c.canvas_length,
    contextLength: c.context_length,
    layers: c.layers,
    hiddenSize: c.hidden_size,
    experts: c.experts,
    expertsUsed: c.experts_used,
    backend: backendName(c.backend),
    parameters: c.parameters,
    fileBytes: c.file_bytes,
    tensorBytes: c.tensor_bytes,
    files: c.files,
    tensors: c.tensors,
  };
}

function id(token: number): number {
  return whole("token", token, 0xffff_ffff);
}

function json(name: string, value: unknown): Buffer {
  return cString(name, JSON.stringify(value) ?? "null");
}

/** What `get` gives; `undefined` where the library says that there is no such thing. */
function unlessMissing<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch (error) {
    if (error instanceof DgemmaError && error.status === "NOT_FOUND") return undefined;
    throw error;
  }
}
