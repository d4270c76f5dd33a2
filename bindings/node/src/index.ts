// DiffusionGemma for Node.js: libdgemma over FFI. A first reading: model.ts, context.ts, generation.ts, native.ts.

/// <reference lib="esnext.disposable" />

export type { Backend } from "./abi.js";
export { Block, type BlockOptions } from "./block.js";
export { type Canvas, type CanvasPart, canvas } from "./canvas.js";
export type { ChatMessage, Prompt } from "./chat.js";
export { Context, type ContextInfo, type ContextOptions, type KvType, type Perf } from "./context.js";
export { Detokenizer } from "./detokenizer.js";
export { AbortError, DgemmaError, LibraryNotFoundError, type StatusName } from "./errors.js";
export type { GenerateOptions, GenerationResult } from "./generation.js";
export { type Device, type LogSink, devices, libraryInfo, setLogSink } from "./library.js";
export type { MemoryInfo } from "./memory.js";
export { type LoadOptions, Model, type ModelInfo, type TokenAttributes, type TokenizeOptions } from "./model.js";
export type { Noise } from "./noise.js";
export type { SamplerDefaults, SamplerOptions } from "./sampler.js";
export type { Candidate } from "./scoring.js";
export type { Step } from "./step.js";
export type { Stream } from "./stream.js";
export type { Tokens } from "./tokens.js";
