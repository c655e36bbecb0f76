//! Products of quantised weights and activations in integers.
//!
//! # Arithmetic
//!
//! Activations are quantised in blocks of 32 (`activations.rs`). The products of a block of weights and a block of
//! activations are summed exactly, in integers. To the result of a row each block then adds, in order of the
//! columns, `f32(sum) * (weight scale * activation scale)`, in f32, nothing fused. That order depends on neither the
//! batch nor the machine, and the integer part has no order at all: **every family of kernels gives the same bits**,
//! alone or in a batch, so all of them share one kernel id.
//!
//! Families differ in how they come by the integer sums:
//!
//! - `portable.rs`: `wide`, that is SIMD128 in a tab and the baseline natively; products of i16.
//! - `relaxed.rs`: WebAssembly's relaxed dot products of i8 and i7. Of these only what every implementation defines
//!   alike is used: the operand called i7 stays within 0 to 127.
//! - `x86.rs`: AVX2, and the dot products of AVX-512 VNNI at 256 bits.

mod activations;
mod blocks;
mod portable;
#[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
mod relaxed;
#[cfg(target_arch = "x86_64")]
mod x86;

use bytemuck::Pod;
use cdi_model::compute::ComputeError;

pub(super) use blocks::{Block, Q4Block, Q8Block, ROWS};

use super::buffer::Scratch;
use super::variant::Variant;
use crate::stored::BLOCK;

/// One kernel: a family and a weight format.
trait Kernel {
    /// Packed weights.
    type Weights: Block;
    /// A block of quantised activations.
    type Activations: Pod;
    /// Most rows of activations whose sums the registers hold.
    const WIDEST: usize;

    /// Quantises a block.
    fn quantise(values: &[f32; BLOCK]) -> Self::Activations;

    /// Eight rows of weights by `T` rows of activations, whose blocks of equal columns stand together.
    fn dots<const T: usize>(w: &[Self::Weights], x: &[[Self::Activations; T]]) -> [[f32; ROWS]; T];
}

/// Weight matrices and where their products go: `out` is `[n, outputs]`, `w` whole groups of eight rows.
pub(super) struct Product<'a, B> {
    pub(super) w: &'a [B],
    pub(super) out: &'a mut [f32],
    pub(super) outputs: usize,
}

/// Products of the rows `x`, of `cols` elements, which are quantised once for all of `products`.
pub(super) trait Multiply: Block {
    fn multiply(
        variant: Variant,
        scratch: &mut Scratch,
        x: &[f32],
        cols: usize,
        products: &mut [Product<'_, Self>],
    ) -> Result<(), ComputeError>;
}

macro_rules! multiply {
    ($block:ty, $kernel:ident) => {
        impl Multiply for $block {
            fn multiply(
                variant: Variant,
                scratch: &mut Scratch,
                x: &[f32],
                cols: usize,
                products: &mut [Product<'_, Self>],
            ) -> Result<(), ComputeError> {
                match variant {
                    Variant::Portable => run::<portable::$kernel>(scratch, x, cols, products),
                    #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
                    Variant::Relaxed16 => run::<relaxed::$kernel<true>>(scratch, x, cols, products),
                    #[cfg(all(feature = "relaxed-simd", target_feature = "simd128"))]
                    Variant::Relaxed32 => run::<relaxed::$kernel<false>>(scratch, x, cols, products),
                    #[cfg(target_arch = "x86_64")]
                    Variant::Avx2 => run::<x86::avx2::$kernel>(scratch, x, cols, products),
                    #[cfg(target_arch = "x86_64")]
                    Variant::Avx512Vnni => run::<x86::vnni::$kernel>(scratch, x, cols, products),
                }
            }
        }
    };
}
multiply!(Q4Block, Q4);
multiply!(Q8Block, Q8);

fn run<K: Kernel>(
    scratch: &mut Scratch,
    x: &[f32],
    cols: usize,
    products: &mut [Product<'_, K::Weights>],
) -> Result<(), ComputeError> {
    let (n, blocks) = (x.len() / cols, cols / BLOCK);
    let quantised = scratch.room::<K::Activations>(n * blocks)?;
    for (row, count) in tiles(n, K::WIDEST) {
        let tile = &mut quantised[row * blocks..][..count * blocks];
        for (t, x) in x[row * cols..][..count * cols].chunks_exact(cols).enumerate() {
            for (block, values) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                tile[block * count + t] = K::quantise(values);
            }
        }
    }
    for product in products {
        matmul::<K>(quantised, blocks, product);
    }
    Ok(())
}

/// Cuts `n` rows into tiles of 8 (if the registers hold so many), 4, 2 and 1: the first row and the count of each. The
/// blocks of a tile's rows are interleaved, so that a kernel walks along them with one pointer.
fn tiles(n: usize, widest: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = 0;
    std::iter::from_fn(move || {
        let count = match n - row {
            0 => return None,
            8.. if widest == 8 => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        row += count;
        Some((row - count, count))
    })
}

/// Not inlined: V8 replaces no running WebAssembly function by its optimised version, so a kernel must be called anew.
#[inline(never)]
fn matmul<K: Kernel>(x: &[K::Activations], blocks: usize, product: &mut Product<'_, K::Weights>) {
    let n = x.len() / blocks;
    for (group, w) in product.w.chunks_exact(blocks).enumerate() {
        // A group's weights stay in the first cache while the tiles of rows pass.
        for (row, count) in tiles(n, K::WIDEST) {
            let x = &x[row * blocks..][..count * blocks];
            let out = &mut product.out[row * product.outputs..][..count * product.outputs];
            match count {
                8 => tile::<K, 8>(x, w, group, out, product.outputs),
                4 => tile::<K, 4>(x, w, group, out, product.outputs),
                2 => tile::<K, 2>(x, w, group, out, product.outputs),
                _ => tile::<K, 1>(x, w, group, out, product.outputs),
            }
        }
    }
}

#[inline(always)]
fn tile<K: Kernel, const T: usize>(
    x: &[K::Activations],
    w: &[K::Weights],
    group: usize,
    out: &mut [f32],
    outputs: usize,
) {
    let sums = K::dots::<T>(w, x.as_chunks().0);
    let first = group * ROWS;
    let count = ROWS.min(outputs - first);
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(outputs)) {
        out[first..][..count].copy_from_slice(&sums[..count]);
    }
}
