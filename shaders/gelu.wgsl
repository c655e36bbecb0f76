// GELU, tanh approximation: 0.5 x (1 + tanh(sqrt(2/π) (x + 0.044715 x³))).

const THREADS = 64u;
const SQRT_2_OVER_PI = 0.7978845608;
// tanh is 1 in f32 well before; some drivers compute it from e^2x and overflow for large arguments.
const LARGEST = 15.0;

struct Params {
    count: u32,
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
        let value = x[i];
        let inner = SQRT_2_OVER_PI * (value + 0.044715 * value * value * value);
        y[i] = 0.5 * value * (1.0 + tanh(clamp(inner, -LARGEST, LARGEST)));
    }
}
