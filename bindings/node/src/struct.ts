// C structs in buffers of ours. Fields are written by name at the offsets that koffi computes; whatever a struct points to
// is held by it, so that holding the struct until a call is done holds everything that the call reads.

import koffi, { type TypeObject } from "koffi";
import { type StructName, structs } from "./abi.js";

/** Memory that C may read or write. Buffers and typed arrays do not move. */
export type Memory = Uint8Array | Uint32Array | Float32Array | Int32Array | BigUint64Array;

const types = new Map<StructName, TypeObject>();

/** The koffi type of a struct. */
export function structType(name: StructName): TypeObject {
  let type = types.get(name);
  if (!type) {
    type = koffi.struct(structs[name]);
    types.set(name, type);
  }
  return type;
}

/** A struct of type `N`, zeroed. */
export class Struct<N extends StructName> {
  readonly bytes: Buffer;
  readonly #type: TypeObject;
  readonly #held: unknown[] = [];

  constructor(name: N) {
    this.#type = structType(name);
    // Not from Node's shared pool: aligned, and nobody else's.
    this.bytes = Buffer.alloc(this.#type.size);
    if ("struct_size" in structs[name]) this.set("struct_size" as keyof (typeof structs)[N] & string, this.#type.size);
  }

  /** Writes a field. */
  set(field: keyof (typeof structs)[N] & string, value: number | bigint): void {
    const { offset, type } = this.#member(field);
    koffi.encode(this.bytes, offset, type, value);
  }

  /** Points a field at memory, which lives as long as this struct. */
  point(field: keyof (typeof structs)[N] & string, to: Memory | Struct<StructName>): void {
    const memory = to instanceof Struct ? to.bytes : to;
    this.#held.push(to);
    this.set(field, koffi.address(memory));
  }

  /** All fields. */
  read(): Record<keyof (typeof structs)[N], number> {
    return koffi.decode(this.bytes, this.#type) as Record<keyof (typeof structs)[N], number>;
  }

  #member(field: string): { type: TypeObject; offset: number } {
    const member = this.#type.members?.[field];
    if (!member) throw new Error(`${this.#type.name} has no field ${field}`);
    return member;
  }
}

/** A copy of `length` numbers at an address; empty for NULL. */
export function copyOf(address: bigint | null, kind: "uint8_t", length: number): Uint8Array;
export function copyOf(address: bigint | null, kind: "uint32_t", length: number): Uint32Array;
export function copyOf(address: bigint | null, kind: "float", length: number): Float32Array;
export function copyOf(address: bigint | null, kind: keyof typeof empty, length: number): Memory {
  return address === null || length === 0 ? empty[kind]() : (koffi.decode(address, kind, length) as Memory);
}

const empty = {
  uint8_t: () => new Uint8Array(),
  uint32_t: () => new Uint32Array(),
  float: () => new Float32Array(),
};
