// y = x · wᵀ for one row of x, w as signed bytes with an f16 scale for each 32 elements of a row:
// 16 lanes on each of 4 outputs, each lane with whole blocks.
//
// One lane then adds the blocks in turn: the order of matmul_q8_0.wgsl, so that bits do not depend on the
// number of rows. Scale and block sum stay apart until then because a product that went through memory
// would be rounded where the `fma` of the other kernel is not.

const OUTPUTS = 4u;
const LANES = 16u;
const BLOCK = 32u;
const WORDS = 8u;

struct Params {
    // Elements of a row, a multiple of 32.
    inner: u32,
    // Rows of w in this binding.
    outputs: u32,
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

var<workgroup> partials: array<f32, 64>;
var<workgroup> block_scales: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let lane = index % LANES;
    let output = (group.y * groups.x + group.x) * OUTPUTS + index / LANES;
    let blocks = params.inner / BLOCK;
    var sum = 0.0;
    for (var start = 0u; start < blocks; start += LANES) {
        let block = start + lane;
        var partial = 0.0;
        var scale = 0.0;
        if output < params.outputs && block < blocks {
            let pair = unpack2x16float(scales[output * params.scale_stride + block / 2u]);
            scale = select(pair.x, pair.y, block % 2u == 1u);
            for (var i = 0u; i < WORDS; i++) {
                let word = quants[(output * blocks + block) * WORDS + i];
                let k = block * BLOCK + i * 4u;
                partial = fma(x[k], f32(bitcast<i32>(word << 24u) >> 24u), partial);
                partial = fma(x[k + 1u], f32(bitcast<i32>(word << 16u) >> 24u), partial);
                partial = fma(x[k + 2u], f32(bitcast<i32>(word << 8u) >> 24u), partial);
                partial = fma(x[k + 3u], f32(bitcast<i32>(word) >> 24u), partial);
            }
        }
        partials[index] = partial;
        block_scales[index] = scale;
        workgroupBarrier();
        if lane == 0u {
            let count = min(LANES, blocks - start);
            for (var i = 0u; i < count; i++) {
                sum = fma(block_scales[index + i], partials[index + i], sum);
            }
        }
        workgroupBarrier();
    }
    if lane == 0u && output < params.outputs {
        y[params.first + output] = sum;
    }
}
