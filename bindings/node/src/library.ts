// What concerns the library rather than a model.

import koffi from "koffi";
import { type Backend, backendName, callbacks, constants } from "./abi.js";
import { Native } from "./native.js";

/** Something that can run a model. */
export interface Device {
  readonly backend: Backend;
  readonly name: string;
  /** Processor cores that the process may use; 0 where that says nothing. */
  readonly cores: number;
  /** Memory in bytes; 0: unknown. */
  readonly memoryBytes: number;
  /** Of which free when asked; 0: unknown. */
  readonly freeBytes: number;
}

/** A message that is no error: "warn": the result may not be what you want; "info": worth knowing once. */
export type LogSink = (level: "warn" | "info", text: string) => void;

/** Which library is used, and how it was built. Keys may be added to `buildInfo`. */
export function libraryInfo(library?: string): {
  path: string;
  version: string;
  abiVersion: number;
  buildInfo: string;
} {
  const native = Native.open(library);
  return {
    path: native.path,
    version: native.plain("dgemma_version"),
    abiVersion: native.plain("dgemma_abi_version"),
    buildInfo: native.plain("dgemma_build_info"),
  };
}

/** What can run a model here. */
export function devices(library?: string): Device[] {
  const native = Native.open(library);
  return Array.from({ length: native.plain<number>("dgemma_device_count") }, (_, i) => {
    const c = native.report("dgemma_device_describe", "dgemma_device_info", i);
    return {
      backend: backendName(c.backend),
      name: String(c.name),
      cores: c.cores,
      memoryBytes: c.memory_bytes,
      freeBytes: c.free_bytes,
    };
  });
}

let sink: LogSink | null = null;
let registered: bigint | undefined;

/**
 * Sends the messages of the whole process to `to`, or nowhere (null, which is how it starts). To be used on the main
 * thread only, since a worker's functions end with it.
 */
export function setLogSink(to: LogSink | null, library?: string): void {
  sink = to;
  registered ??= register();
  Native.open(library).call("dgemma_log_set", to ? registered : null, null);
}

function register(): bigint {
  const [result, parameters] = callbacks.dgemma_log_callback;
  const hear = (level: number, text: bigint): void => {
    try {
      sink?.(level === constants.DGEMMA_LOG_WARN ? "warn" : "info", koffi.decode.string(text));
    } catch (error) {
      // C cannot pass it on: to the program, as of an event's listener.
      process.nextTick(() => {
        throw error;
      });
    }
  };
  return koffi.register(hear, koffi.pointer(koffi.proto(result, [...parameters])));
}
