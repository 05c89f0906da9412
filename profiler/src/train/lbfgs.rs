//! Minimises a smooth convex function by L-BFGS with a backtracking line search (Nocedal and Wright, ch. 7.2).

use std::collections::VecDeque;

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 8;
/// The search stops when the value falls by less than this share of itself.
const TOLERANCE: f64 = 1e-7;
/// Share of the expected fall that a step must bring (Armijo).
const SUFFICIENT: f64 = 1e-4;
/// Halvings of a step before the search gives up.
const HALVINGS: usize = 30;

/// A function: writes the gradient at `x` and gives the value.
pub(super) trait Function {
    fn at(&self, x: &[f64], gradient: &mut [f64]) -> f64;
}

/// The point reached from `x` in at most `steps` steps.
pub(super) fn minimise(f: &impl Function, mut x: Vec<f64>, steps: usize) -> Vec<f64> {
    let mut gradient = vec![0.0; x.len()];
    let mut value = f.at(&x, &mut gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    let mut next_gradient = vec![0.0; x.len()];
    for _ in 0..steps {
        let direction = direction(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            break;
        }
        // The first step has no scale to go by.
        let mut length =
            if memory.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let mut found = None;
        for _ in 0..HALVINGS {
            let next: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let next_value = f.at(&next, &mut next_gradient);
            if next_value <= value + SUFFICIENT * length * slope {
                found = Some((next, next_value));
                break;
            }
            length *= 0.5;
        }
        let Some((next, next_value)) = found else { break };
        let step: Vec<f64> = next.iter().zip(&x).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-12 {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((step, change, 1.0 / curvature));
        }
        let fall = value - next_value;
        x = next;
        std::mem::swap(&mut gradient, &mut next_gradient);
        value = next_value;
        if fall <= TOLERANCE * value.abs().max(1.0) {
            break;
        }
    }
    x
}

/// Minus the inverse Hessian, as far as remembered, times the gradient.
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut d: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(memory.len());
    for (step, change, rho) in memory.iter().rev() {
        let alpha = rho * dot(step, &d);
        add(&mut d, -alpha, change);
        alphas.push(alpha);
    }
    if let Some((step, change, _)) = memory.back() {
        let scale = dot(step, change) / dot(change, change);
        d.iter_mut().for_each(|x| *x *= scale);
    }
    for ((step, change, rho), alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * dot(change, &d);
        add(&mut d, alpha - beta, step);
    }
    d
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bowl that is a thousand times steeper along one side than along the other.
    struct Bowl;

    impl Function for Bowl {
        fn at(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
            gradient[0] = 2.0 * (x[0] - 3.0);
            gradient[1] = 2_000.0 * (x[1] + 1.0);
            (x[0] - 3.0).powi(2) + 1_000.0 * (x[1] + 1.0).powi(2)
        }
    }

    #[test]
    fn finds_the_bottom() {
        let x = minimise(&Bowl, vec![-40.0, 70.0], 60);
        assert!((x[0] - 3.0).abs() < 1e-2 && (x[1] + 1.0).abs() < 1e-3, "{x:?}");
    }

    #[test]
    fn stays_at_the_bottom() {
        assert_eq!(minimise(&Bowl, vec![3.0, -1.0], 5), vec![3.0, -1.0]);
    }
}
