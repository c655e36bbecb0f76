// y = x / sqrt(mean(x²) + eps) * weight: one workgroup a row.

const THREADS = 64u;

struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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
        let value = x[start + i];
        sum = fma(value, value, sum);
    }
    sums[index] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if index < half {
            sums[index] += sums[index + half];
        }
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(sums[0] / f32(params.cols) + params.eps);
    for (var i = index; i < params.cols; i += THREADS) {
        y[start + i] = x[start + i] * scale * weight[i];
    }
}
