// y = (x - mean) / sqrt(variance + eps) * weight + bias: one workgroup a row.
//
// The variance is summed over differences from the mean in a second pass: E[x²] - E[x]² cancels in f32.

const THREADS = 64u;

struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= params.rows {
        return;
    }
    let start = row * params.cols;
    var sum = 0.0;
    for (var i = index; i < params.cols; i += THREADS) {
        sum += x[start + i];
    }
    sums[index] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if index < half {
            sums[index] += sums[index + half];
        }
        workgroupBarrier();
    }
    let mean = sums[0] / f32(params.cols);
    // Everyone has read the mean before the array is used again.
    workgroupBarrier();
    var squares = 0.0;
    for (var i = index; i < params.cols; i += THREADS) {
        let difference = x[start + i] - mean;
        squares = fma(difference, difference, squares);
    }
    sums[index] = squares;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if index < half {
            sums[index] += sums[index + half];
        }
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(sums[0] / f32(params.cols) + params.eps);
    for (var i = index; i < params.cols; i += THREADS) {
        y[start + i] = fma((x[start + i] - mean) * scale, weight[i], bias[i]);
    }
}
