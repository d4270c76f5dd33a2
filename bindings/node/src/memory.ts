// Where memory is.

/** Memory in bytes. */
export interface MemoryInfo {
  /** The model's files, mapped or read; shared by all contexts of the model. */
  readonly weightBytes: number;
  /** Cached keys and values at their full size; the system hands out the pages as they are filled. 0 for a model. */
  readonly kvBytes: number;
  /** Activations; a step needs some more for its time. 0 for a model. */
  readonly activationBytes: number;
}

/** A `dgemma_memory`. */
export function memoryInfo(c: Record<"weight_bytes" | "kv_bytes" | "activation_bytes", number>): MemoryInfo {
  return { weightBytes: c.weight_bytes, kvBytes: c.kv_bytes, activationBytes: c.activation_bytes };
}
