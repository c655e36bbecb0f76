// y = x · wᵀ for many rows of x, w as signed bytes with an f16 scale for each 32 elements of a row: one workgroup
// computes 32 × 64 outputs, each thread 4 × 4 of them in registers.
//
// Order of every sum as in matmul_q8_0.wgsl, so that a row has the same bits through either. Accumulators are named
// because arrays indexed by a variable leave the registers.

const ROWS = 32u;
const OUTPUTS = 64u;
const BLOCK = 32u;
const WORDS = 8u;
// One more than BLOCK: threads that read the same column of neighbouring rows hit different banks.
const PITCH = 33u;
const THREADS = 128u;

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

var<workgroup> x_tile: array<f32, 1056>;
var<workgroup> w_tile: array<f32, 2112>;
var<workgroup> scale_tile: array<f32, 64>;

// Outputs `output`, `output + 16` … of one row.
fn store(row: u32, output: u32, sums: vec4<f32>) {
    if row >= params.rows {
        return;
    }
    let start = row * params.stride + params.first;
    if output < params.outputs {
        y[start + output] = sums.x;
    }
    if output + 16u < params.outputs {
        y[start + output + 16u] = sums.y;
    }
    if output + 32u < params.outputs {
        y[start + output + 32u] = sums.z;
    }
    if output + 48u < params.outputs {
        y[start + output + 48u] = sums.w;
    }
}

@compute @workgroup_size(16, 8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * ROWS;
    let first_output = group.x * OUTPUTS;
    let x_at = local.y * PITCH;
    let w_at = local.x * PITCH;
    let blocks = params.inner / BLOCK;
    var sum_0 = vec4<f32>();
    var sum_1 = vec4<f32>();
    var sum_2 = vec4<f32>();
    var sum_3 = vec4<f32>();
    for (var block = 0u; block < blocks; block++) {
        for (var i = index; i < ROWS * BLOCK; i += THREADS) {
            let row = first_row + i / BLOCK;
            var value = 0.0;
            if row < params.rows {
                value = x[row * params.inner + block * BLOCK + i % BLOCK];
            }
            x_tile[i / BLOCK * PITCH + i % BLOCK] = value;
        }
        for (var i = index; i < OUTPUTS * WORDS; i += THREADS) {
            let output = first_output + i / WORDS;
            var word = 0u;
            if output < params.outputs {
                word = quants[(output * blocks + block) * WORDS + i % WORDS];
            }
            let at = i / WORDS * PITCH + i % WORDS * 4u;
            w_tile[at] = f32(bitcast<i32>(word << 24u) >> 24u);
            w_tile[at + 1u] = f32(bitcast<i32>(word << 16u) >> 24u);
            w_tile[at + 2u] = f32(bitcast<i32>(word << 8u) >> 24u);
            w_tile[at + 3u] = f32(bitcast<i32>(word) >> 24u);
        }
        if index < OUTPUTS {
            let output = first_output + index;
            var scale = 0.0;
            if output < params.outputs {
                let pair = unpack2x16float(scales[output * params.scale_stride + block / 2u]);
                scale = select(pair.x, pair.y, block % 2u == 1u);
            }
            scale_tile[index] = scale;
        }
        workgroupBarrier();
        var partial_0 = vec4<f32>();
        var partial_1 = vec4<f32>();
        var partial_2 = vec4<f32>();
        var partial_3 = vec4<f32>();
        for (var k = 0u; k < BLOCK; k++) {
            let weights = vec4<f32>(
                w_tile[w_at + k],
                w_tile[w_at + 16u * PITCH + k],
                w_tile[w_at + 32u * PITCH + k],
                w_tile[w_at + 48u * PITCH + k],
            );
            partial_0 = fma(vec4<f32>(x_tile[x_at + k]), weights, partial_0);
            partial_1 = fma(vec4<f32>(x_tile[x_at + 8u * PITCH + k]), weights, partial_1);
            partial_2 = fma(vec4<f32>(x_tile[x_at + 16u * PITCH + k]), weights, partial_2);
            partial_3 = fma(vec4<f32>(x_tile[x_at + 24u * PITCH + k]), weights, partial_3);
        }
        let block_scales = vec4<f32>(
            scale_tile[local.x],
            scale_tile[local.x + 16u],
            scale_tile[local.x + 32u],
            scale_tile[local.x + 48u],
        );
        sum_0 = fma(block_scales, partial_0, sum_0);
        sum_1 = fma(block_scales, partial_1, sum_1);
        sum_2 = fma(block_scales, partial_2, sum_2);
        sum_3 = fma(block_scales, partial_3, sum_3);
        workgroupBarrier();
    }
    let row = first_row + local.y;
    let output = first_output + local.x;
    store(row, output, sum_0);
    store(row + 8u, output, sum_1);
    store(row + 16u, output, sum_2);
    store(row + 24u, output, sum_3);
}
