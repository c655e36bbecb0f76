//! Weights as the integer kernels read them: blocks of 32 columns of eight rows.
//!
//! A 16-byte vector holds the same four columns of four rows, so that one vector of activations serves four rows
//! and no sum has to cross lanes; two such vectors, side by side, are the eight rows of a 256-bit register.

use bytemuck::{Pod, Zeroable};
use half::f16;

use crate::stored::BLOCK;

/// Rows of a block.
pub(in crate::cpu) const ROWS: usize = 8;

/// Columns of one row in a vector.
const STEP: usize = 4;

/// Packed blocks of one format.
pub(in crate::cpu) trait Block: Copy + Default {
    /// Puts a row's quants and scale in its place.
    fn set(&mut self, row: usize, quants: &[i8; BLOCK], scale: f16);

    /// Quants and scale of a row.
    fn get(&self, row: usize) -> ([i8; BLOCK], f32);
}

/// 4 bits an element, 0 to 15, of which 8 stands for zero; the elements 16 to 31 are in the high halves.
/// 144 bytes: what the stored blocks take.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C, align(16))]
pub(in crate::cpu) struct Q4Block {
    /// Bits of the f16 scales.
    pub(super) scales: [u16; ROWS],
    /// Vectors `2 * step + half`: columns from `4 * step` on of the rows from `4 * half` on.
    pub(super) quants: [[u8; 16]; 8],
}

/// Signed bytes. 288 bytes, 16 more than the stored blocks take.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C, align(16))]
pub(in crate::cpu) struct Q8Block {
    /// Bits of the f16 scales.
    pub(super) scales: [u16; ROWS],
    /// Sums of the quants: kernels that add 128 to every activation take 128 of these off again.
    pub(super) sums: [i16; ROWS],
    /// As [`Q4Block::quants`].
    pub(super) quants: [[i8; 16]; 16],
}

/// Vector and first byte of four columns of a row.
const fn place(row: usize, step: usize) -> (usize, usize) {
    (2 * step + row / 4, row % 4 * STEP)
}

impl Block for Q4Block {
    fn set(&mut self, row: usize, quants: &[i8; BLOCK], scale: f16) {
        self.scales[row] = scale.to_bits();
        let nibble = |column: usize| (quants[column].clamp(-8, 7) + 8).cast_unsigned();
        for column in 0..BLOCK / 2 {
            let (vector, byte) = place(row, column / STEP);
            self.quants[vector][byte + column % STEP] = nibble(column) | (nibble(column + BLOCK / 2) << 4);
        }
    }

    fn get(&self, row: usize) -> ([i8; BLOCK], f32) {
        let quants = std::array::from_fn(|column| {
            let (vector, byte) = place(row, column % (BLOCK / 2) / STEP);
            let both = self.quants[vector][byte + column % STEP];
            let nibble = if column < BLOCK / 2 { both & 15 } else { both >> 4 };
            nibble.cast_signed() - 8
        });
        (quants, f16::from_bits(self.scales[row]).to_f32())
    }
}

impl Block for Q8Block {
    fn set(&mut self, row: usize, quants: &[i8; BLOCK], scale: f16) {
        self.scales[row] = scale.to_bits();
        self.sums[row] = quants.iter().map(|q| i16::from(*q)).sum();
        for (column, quant) in quants.iter().enumerate() {
            let (vector, byte) = place(row, column / STEP);
            self.quants[vector][byte + column % STEP] = *quant;
        }
    }

    fn get(&self, row: usize) -> ([i8; BLOCK], f32) {
        let quants = std::array::from_fn(|column| {
            let (vector, byte) = place(row, column / STEP);
            self.quants[vector][byte + column % STEP]
        });
        (quants, f16::from_bits(self.scales[row]).to_f32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<B: Block>(least: i8, most: i8) {
        let quants: [[i8; BLOCK]; ROWS] = std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                let span = i32::from(most) - i32::from(least) + 1;
                let step = i32::try_from(row * 37 + column * 11).expect("small");
                let value = i32::from(least) + step % span;
                i8::try_from(value).expect("within the range")
            })
        });
        let mut block = B::default();
        for row in (0..ROWS).rev() {
            block.set(row, &quants[row], f16::from_f32(row as f32 - 3.5));
        }
        for (row, quants) in quants.iter().enumerate() {
            assert_eq!(block.get(row), (*quants, row as f32 - 3.5));
        }
    }

    #[test]
    fn rows_come_back_as_they_were_set() {
        round_trip::<Q4Block>(-8, 7);
        round_trip::<Q8Block>(-128, 127);
    }
}
