// Causal grouped-query attention over a cache: one workgroup a row and query head.
//
// Positions are taken in tiles of 64 from position 0 on, with a running maximum (online softmax,
// https://arxiv.org/abs/1805.02867): the order of the sums depends on the row's position alone, so prefill
// and decode give the same bits.

const THREADS = 64u;
const LOWEST = -3.4e38;

struct Params {
    rows: u32,
    heads: u32,
    kv_heads: u32,
    // At most 256: the length of the shared arrays.
    head_dim: u32,
    // Position of the first row.
    start: u32,
    // 1 / sqrt(head_dim).
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> keys: array<f32>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> query: array<f32, 256>;
var<workgroup> sums: array<f32, 256>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> reduced: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let unit = group.y * groups.x + group.x;
    if unit >= params.rows * params.heads {
        return;
    }
    let row = unit / params.heads;
    let head = unit % params.heads;
    let kv_head = head / (params.heads / params.kv_heads);
    let kv_width = params.kv_heads * params.head_dim;
    let q_start = unit * params.head_dim;
    let kv_start = kv_head * params.head_dim;
    let positions = params.start + row + 1u;

    for (var d = index; d < params.head_dim; d += THREADS) {
        query[d] = q[q_start + d];
        sums[d] = 0.0;
    }
    workgroupBarrier();

    var running_max = LOWEST;
    var running_sum = 0.0;
    for (var first = 0u; first < positions; first += THREADS) {
        let position = first + index;
        var score = LOWEST;
        if position < positions {
            var dot = 0.0;
            for (var d = 0u; d < params.head_dim; d++) {
                dot = fma(query[d], keys[position * kv_width + kv_start + d], dot);
            }
            score = dot * params.scale;
        }
        reduced[index] = score;
        workgroupBarrier();
        for (var half = THREADS / 2u; half > 0u; half /= 2u) {
            if index < half {
                reduced[index] = max(reduced[index], reduced[index + half]);
            }
            workgroupBarrier();
        }
        let next_max = max(running_max, reduced[0]);
        // Everyone has read the maximum before the array is used again.
        workgroupBarrier();
        var weight = 0.0;
        if position < positions {
            weight = exp(score - next_max);
        }
        weights[index] = weight;
        reduced[index] = weight;
        workgroupBarrier();
        for (var half = THREADS / 2u; half > 0u; half /= 2u) {
            if index < half {
                reduced[index] += reduced[index + half];
            }
            workgroupBarrier();
        }
        var correction = 0.0;
        if first > 0u {
            correction = exp(running_max - next_max);
        }
        running_sum = fma(running_sum, correction, reduced[0]);
        running_max = next_max;
        let count = min(THREADS, positions - first);
        for (var d = index; d < params.head_dim; d += THREADS) {
            var sum = 0.0;
            for (var i = 0u; i < count; i++) {
                sum = fma(weights[i], values[(first + i) * kv_width + kv_start + d], sum);
            }
            sums[d] = fma(sums[d], correction, sum);
        }
        workgroupBarrier();
    }
    for (var d = index; d < params.head_dim; d += THREADS) {
        y[q_start + d] = sums[d] / running_sum;
    }
}
