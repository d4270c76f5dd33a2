// One denoising step, copied out of C's memory.

import koffi from "koffi";
import { copyOf, structType } from "./struct.js";

/** What one denoising step found. Arrays have `canvasLength` entries and are copies. */
export interface Step {
  /** The canvas's index within the generation, from 0. */
  readonly block: number;
  /** The step's index within the canvas, from 0. */
  readonly step: number;
  /** Most steps that a canvas takes. */
  readonly maxSteps: number;
  /** Whether the draft is stable and confident, so that this was the canvas's last step. */
  readonly converged: boolean;
  /** Whether the canvas takes no further step: converged, or out of steps. */
  readonly done: boolean;
  /** Positions of the canvas. */
  readonly canvasLength: number;
  /** The most probable token of each position: what would be committed now. Ids may be control tokens. */
  readonly draft: Uint32Array;
  /** Entropy of each position in nats, 0 (certain) to ln(vocabulary size). */
  readonly entropy: Float32Array;
  /** 1 where a position keeps its token for the next step, 0 where it gets fresh noise. */
  readonly accepted: Uint8Array;
  /** The canvas that the next step starts from. */
  readonly canvas: Uint32Array;
  /** The token drawn at each position. */
  readonly drawn: Uint32Array;
  /** Natural logarithm of the probability of each position's draft: its confidence. */
  readonly logProb: Float32Array;
  /** 1 where the draft is not that of the step before; at the first step, not what the canvas started from. */
  readonly changed: Uint8Array;
  /** 1 where the program pinned the token. */
  readonly pinned: Uint8Array;
  /** Leading positions that are unlikely to change any more. The number can shrink. */
  readonly stableLength: number;
  /** The step's temperature. */
  readonly temperature: number;
}

/** Copies a `dgemma_step`, given by its address or its bytes. */
export function stepAt(at: bigint | Buffer): Step {
  const c = koffi.decode(at, structType("dgemma_step")) as Record<string, number> & Record<Arrays, bigint | null>;
  const n = c["canvas_length"]!;
  return {
    block: c["block"]!,
    step: c["step"]!,
    maxSteps: c["max_steps"]!,
    converged: c["converged"] !== 0,
    done: c["done"] !== 0,
    canvasLength: n,
    draft: copyOf(c.draft, "uint32_t", n),
    entropy: copyOf(c.entropy, "float", n),
    accepted: copyOf(c.accepted, "uint8_t", n),
    canvas: copyOf(c.canvas, "uint32_t", n),
    drawn: copyOf(c.drawn, "uint32_t", n),
    logProb: copyOf(c.log_prob, "float", n),
    changed: copyOf(c.changed, "uint8_t", n),
    pinned: copyOf(c.pinned, "uint8_t", n),
    stableLength: c["stable_length"]!,
    temperature: c["temperature"]!,
  };
}

type Arrays = "draft" | "entropy" | "accepted" | "canvas" | "drawn" | "log_prob" | "changed" | "pinned";
