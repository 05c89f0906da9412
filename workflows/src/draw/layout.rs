//! Where things stand in a picture: layers by longest path, each ordered by where its neighbours stand (Sugiyama,
//! Tagawa, Toda 1981, without the routing of long edges, which workflows of at most 64 nodes can do without).

use super::Scene;

/// Sides of a node without a body.
pub(super) const WIDTH: f64 = 190.0;
pub(super) const HEIGHT: f64 = 54.0;
/// Room between nodes of a layer, and between layers.
const BESIDE: f64 = 36.0;
const BELOW: f64 = 62.0;
/// Room around a body, and for the words above it.
pub(super) const PAD: f64 = 18.0;
pub(super) const TITLE: f64 = 44.0;

/// A placed graph. Positions are relative to its own corner.
pub(super) struct Placed {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) boxes: Vec<PlacedBox>,
}

pub(super) struct PlacedBox {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) bodies: Vec<Placed>,
}

/// Places a scene and everything within it.
pub(super) fn place(scene: &Scene) -> Placed {
    let mut boxes: Vec<PlacedBox> =
        scene.boxes.iter().map(|b| sized(b.bodies.iter().map(place).collect())).collect();
    let layers = order(scene, &layers(scene));
    let row = |layer: &Vec<usize>| {
        let widths: f64 = layer.iter().filter_map(|i| boxes.get(*i)).map(|b| b.width).sum();
        widths + BESIDE * f64::from(u32::try_from(layer.len().saturating_sub(1)).unwrap_or(0))
    };
    let width = layers.iter().map(row).fold(0.0, f64::max);
    let mut y = 0.0;
    let starts: Vec<f64> = layers.iter().map(|l| (width - row(l)) / 2.0).collect();
    for (layer, start) in layers.iter().zip(starts) {
        let (mut x, mut tallest) = (start, 0.0_f64);
        for i in layer {
            let Some(b) = boxes.get_mut(*i) else { continue };
            (b.x, b.y) = (x, y);
            x += b.width + BESIDE;
            tallest = tallest.max(b.height);
        }
        y += tallest + BELOW;
    }
    Placed { width, height: (y - BELOW).max(0.0), boxes }
}

fn sized(bodies: Vec<Placed>) -> PlacedBox {
    if bodies.is_empty() {
        return PlacedBox { x: 0.0, y: 0.0, width: WIDTH, height: HEIGHT, bodies };
    }
    let width = bodies.iter().map(|b| b.width).fold(WIDTH, f64::max) + 2.0 * PAD;
    let height = bodies.iter().map(|b| b.height + PAD).sum::<f64>() + TITLE;
    PlacedBox { x: 0.0, y: 0.0, width, height, bodies }
}

/// The layer of each node: one below the lowest of its sources.
fn layers(scene: &Scene) -> Vec<usize> {
    let mut layer = vec![0_usize; scene.boxes.len()];
    // A graph without cycles is settled after as many rounds as it has nodes.
    for _ in 0..scene.boxes.len() {
        let mut moved = false;
        for a in &scene.arrows {
            let least = layer.get(a.from).map_or(0, |l| l.saturating_add(1));
            if let Some(l) = layer.get_mut(a.to).filter(|l| **l < least) {
                *l = least;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    layer
}

/// Nodes by layer, each layer ordered by the mean place of its sources.
fn order(scene: &Scene, layer: &[usize]) -> Vec<Vec<usize>> {
    let depth = layer.iter().max().map_or(0, |m| m.saturating_add(1));
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); depth];
    for (node, l) in layer.iter().enumerate() {
        if let Some(row) = rows.get_mut(*l) {
            row.push(node);
        }
    }
    let mut at: Vec<f64> = vec![0.0; layer.len()];
    for row in &mut rows {
        let place = |node: usize| {
            let sources: Vec<f64> = scene
                .arrows
                .iter()
                .filter(|a| a.to == node)
                .filter_map(|a| at.get(a.from).copied())
                .collect();
            let n = f64::from(u32::try_from(sources.len().max(1)).unwrap_or(1));
            sources.iter().sum::<f64>() / n
        };
        let mut placed: Vec<(f64, usize)> = row.iter().map(|n| (place(*n), *n)).collect();
        placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        *row = placed.iter().map(|(_, n)| *n).collect();
        let middle = f64::from(u32::try_from(row.len()).unwrap_or(0)) / 2.0;
        for (i, node) in row.iter().enumerate() {
            if let Some(a) = at.get_mut(*node) {
                *a = f64::from(u32::try_from(i).unwrap_or(0)) - middle;
            }
        }
    }
    rows
}
