// y = silu(gate) * up with silu(x) = x / (1 + e^-x).

const THREADS = 64u;

struct Params {
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + index;
    if i < params.count {
        let x = gate[i];
        // WGSL may assume that no infinity arises, so the power must not overflow.
        let power = exp(-abs(x));
        y[i] = select(x * power, x, x >= 0.0) / (1.0 + power) * up[i];
    }
}
