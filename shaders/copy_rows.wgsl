// Copies consecutive elements: a range of rows as a tensor of their own.

const THREADS = 64u;

struct Params {
    count: u32,
    // Element of x that comes first.
    source_start: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + index;
    if i < params.count {
        y[i] = x[params.source_start + i];
    }
}
