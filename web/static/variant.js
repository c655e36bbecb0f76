// Which build of the compute worker this browser runs.

// The smallest module with a relaxed dot product: () -> v128 { i16x8.relaxed_dot_i8x16_i7x16_s of two i8x16.splat }.
// WebAssembly.validate tells what the engine can do without running anything.
const RELAXED_MODULE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, // magic, version
  1, 5, 1, 96, 0, 1, 123, // types: () -> v128
  3, 2, 1, 0, // functions: one of type 0
  10, 15, 1, 13, 0, 65, 0, 253, 15, 65, 0, 253, 15, 253, 146, 2, 11, // code
]);

export const worker = globalThis.WebAssembly?.validate(RELAXED_MODULE) ? 'worker-relaxed' : 'worker';
