// y = x · wᵀ for one row of x: 16 lanes on each of 4 outputs, each lane with whole tiles of 32 elements.
//
// One lane then adds the tiles in turn: the order of matmul_f32.wgsl, so that bits do not depend on the
// number of rows.

const OUTPUTS = 4u;
const LANES = 16u;
const TILE = 32u;

struct Params {
    // Elements of a row.
    inner: u32,
    // Rows of w in this binding.
    outputs: u32,
    // Row of the whole matrix that this binding begins with.
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> partials: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let lane = index % LANES;
    let output = (group.y * groups.x + group.x) * OUTPUTS + index / LANES;
    var sum = 0.0;
    for (var start = 0u; start < params.inner; start += LANES * TILE) {
        let tile_start = start + lane * TILE;
        var partial = 0.0;
        if output < params.outputs && tile_start < params.inner {
            let tile_end = min(tile_start + TILE, params.inner);
            for (var k = tile_start; k < tile_end; k++) {
                partial = fma(x[k], w[output * params.inner + k], partial);
            }
        }
        partials[index] = partial;
        workgroupBarrier();
        if lane == 0u {
            let tiles = min(LANES, (params.inner - start + TILE - 1u) / TILE);
            for (var tile = 0u; tile < tiles; tile++) {
                sum += partials[index + tile];
            }
        }
        workgroupBarrier();
    }
    if lane == 0u && output < params.outputs {
        y[params.first + output] = sum;
    }
}
