// y = x · wᵀ for several rows of x: one workgroup computes 16 × 16 outputs from tiles in shared memory.
//
// Order of every sum: `fma` over the 32 elements of a tile, then the tiles in turn. matvec_f32.wgsl keeps
// the same order, so that a row has the same bits whether it is computed alone or among others.

const SIDE = 16u;
const TILE = 32u;
// One more than TILE: threads that read the same column of neighbouring rows hit different banks.
const PITCH = 33u;

struct Params {
    // Rows of x.
    rows: u32,
    // Elements of a row of x and of w.
    inner: u32,
    // Rows of w in this binding.
    outputs: u32,
    // Outputs of the whole matrix: the length of a row of y.
    stride: u32,
    // Row of the whole matrix that this binding begins with.
    first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> x_tile: array<f32, 528>;
var<workgroup> w_tile: array<f32, 528>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * SIDE;
    let first_output = group.x * SIDE;
    var sum = 0.0;
    for (var start = 0u; start < params.inner; start += TILE) {
        for (var i = index; i < SIDE * TILE; i += SIDE * SIDE) {
            let k = start + i % TILE;
            let row = first_row + i / TILE;
            let output = first_output + i / TILE;
            var x_value = 0.0;
            var w_value = 0.0;
            if k < params.inner && row < params.rows {
                x_value = x[row * params.inner + k];
            }
            if k < params.inner && output < params.outputs {
                w_value = w[output * params.inner + k];
            }
            x_tile[i / TILE * PITCH + i % TILE] = x_value;
            w_tile[i / TILE * PITCH + i % TILE] = w_value;
        }
        workgroupBarrier();
        var partial = 0.0;
        for (var k = 0u; k < TILE; k++) {
            partial = fma(x_tile[local.y * PITCH + k], w_tile[local.x * PITCH + k], partial);
        }
        sum += partial;
        workgroupBarrier();
    }
    let row = first_row + local.y;
    let output = first_output + local.x;
    if row < params.rows && output < params.outputs {
        y[row * params.stride + params.first + output] = sum;
    }
}
