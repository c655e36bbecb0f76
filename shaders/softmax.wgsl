// Softmax of each row, shifted by its maximum: one workgroup a row.

const THREADS = 64u;
const LOWEST = -3.4e38;

struct Params {
    rows: u32,
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> shared_values: array<f32, 64>;

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
    var largest = LOWEST;
    for (var i = index; i < params.cols; i += THREADS) {
        largest = max(largest, x[start + i]);
    }
    shared_values[index] = largest;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if index < half {
            shared_values[index] = max(shared_values[index], shared_values[index + half]);
        }
        workgroupBarrier();
    }
    let shift = shared_values[0];
    // Everyone has read the maximum before the array is used again.
    workgroupBarrier();
    var sum = 0.0;
    for (var i = index; i < params.cols; i += THREADS) {
        let value = exp(x[start + i] - shift);
        y[start + i] = value;
        sum += value;
    }
    shared_values[index] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if index < half {
            shared_values[index] += shared_values[index + half];
        }
        workgroupBarrier();
    }
    let total = shared_values[0];
    for (var i = index; i < params.cols; i += THREADS) {
        y[start + i] = y[start + i] / total;
    }
}
