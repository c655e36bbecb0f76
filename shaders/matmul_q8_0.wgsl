// y = x · wᵀ for several rows of x, w as signed bytes with an f16 scale for each 32 elements of a row.
//
// Order of every sum: `fma` over the 32 bytes of a block, then `fma(scale, block, sum)` over the blocks in
// turn. matvec_q8_0.wgsl keeps the same order, so that a row has the same bits alone or among others.

const SIDE = 16u;
const BLOCK = 32u;
const WORDS = 8u;
// One more than BLOCK: threads that read the same column of neighbouring rows hit different banks.
const PITCH = 33u;

struct Params {
    // Rows of x.
    rows: u32,
    // Elements of a row of x and of w, a multiple of 32.
    inner: u32,
    // Rows of w in this binding.
    outputs: u32,
    // Outputs of the whole matrix: the length of a row of y.
    stride: u32,
    // Row of the whole matrix that this binding begins with.
    first: u32,
    // Words of `scales` that a row takes.
    scale_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
// Four signed bytes a word, the lowest byte first.
@group(0) @binding(2) var<storage, read> quants: array<u32>;
// Two f16 a word, the lower half first.
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> x_tile: array<f32, 528>;
var<workgroup> w_tile: array<f32, 528>;
var<workgroup> scale_tile: array<f32, 16>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * SIDE;
    let first_output = group.x * SIDE;
    let blocks = params.inner / BLOCK;
    var sum = 0.0;
    for (var block = 0u; block < blocks; block++) {
        for (var i = index; i < SIDE * BLOCK; i += SIDE * SIDE) {
            let row = first_row + i / BLOCK;
            var value = 0.0;
            if row < params.rows {
                value = x[row * params.inner + block * BLOCK + i % BLOCK];
            }
            x_tile[i / BLOCK * PITCH + i % BLOCK] = value;
        }
        if index < SIDE * WORDS {
            let output = first_output + index / WORDS;
            var word = 0u;
            if output < params.outputs {
                word = quants[(output * blocks + block) * WORDS + index % WORDS];
            }
            let at = index / WORDS * PITCH + index % WORDS * 4u;
            w_tile[at] = f32(bitcast<i32>(word << 24u) >> 24u);
            w_tile[at + 1u] = f32(bitcast<i32>(word << 16u) >> 24u);
            w_tile[at + 2u] = f32(bitcast<i32>(word << 8u) >> 24u);
            w_tile[at + 3u] = f32(bitcast<i32>(word) >> 24u);
        }
        if index < SIDE {
            let output = first_output + index;
            var scale = 0.0;
            if output < params.outputs {
                let pair = unpack2x16float(scales[output * params.scale_stride + block / 2u]);
                scale = select(pair.x, pair.y, block % 2u == 1u);
            }
            scale_tile[index] = scale;
        }
        workgroupBarrier();
        var partial = 0.0;
        for (var k = 0u; k < BLOCK; k++) {
            partial = fma(x_tile[local.y * PITCH + k], w_tile[local.x * PITCH + k], partial);
        }
        sum = fma(scale_tile[local.x], partial, sum);
        workgroupBarrier();
    }
    let row = first_row + local.y;
    let output = first_output + local.x;
    if row < params.rows && output < params.outputs {
        y[row * params.stride + params.first + output] = sum;
    }
}
