//! What a unit of any layer sees of every image before it, from the layers' arithmetic alone.

use std::ops::RangeInclusive;

use crate::network::arithmetic::Window;
use crate::network::{Architecture, Layer, NamedLayer};

/// What is seen along one axis: index `i` sees `[i · stride − before, i · stride + after]`, of which a part may be padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From what one index sees to what the next sees.
    pub stride: i64,
    /// Indices before `i · stride`.
    pub before: i64,
    /// Indices after `i · stride`.
    pub after: i64,
}

impl Span {
    /// Each index sees itself.
    const ITSELF: Self = Self { stride: 1, before: 0, after: 0 };

    /// What is seen through `window` of the image before it.
    fn through(self, window: Window) -> Self {
        let number = |value: usize| value as i64;
        let (stride, past) = (number(window.stride), number(window.padding[0]));
        let reach = number(window.dilation * (window.kernel - 1));
        Self {
            stride: self.stride * stride,
            before: self.before * stride + past,
            after: self.after * stride + reach - past,
        }
    }

    fn union(self, other: Self) -> Self {
        Self { stride: self.stride, before: self.before.max(other.before), after: self.after.max(other.after) }
    }

    /// What `index` sees of `size` indices, padding left out; `None` when it sees padding only.
    pub fn of(&self, index: usize, size: usize) -> Option<RangeInclusive<usize>> {
        let anchor = index as i64 * self.stride;
        let (first, last) = ((anchor - self.before).max(0), (anchor + self.after).min(size as i64 - 1));
        (first <= last).then_some(first as usize..=last as usize)
    }
}

/// What is seen of an image; the channels are all seen (but for groups, which this does not tell apart).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Along time.
    pub time: Span,
    /// Along frequency.
    pub frequency: Span,
}

impl Field {
    const ITSELF: Self = Self { time: Span::ITSELF, frequency: Span::ITSELF };

    fn union(self, other: Self) -> Self {
        Self { time: self.time.union(other.time), frequency: self.frequency.union(other.frequency) }
    }
}

/// What the units of the layer in line `layer` of the summary see: first of the input, then of each layer's output, in the
/// order of the summary; `None` of those that are not on the way.
///
/// # Panics
/// When there is no such line.
pub fn fields(architecture: &Architecture, layer: usize) -> Vec<Option<Field>> {
    assert!(layer < architecture.summary().len(), "a line of the summary");
    let mut walk = Walk { architecture, fields: vec![None; architecture.summary().len() + 1] };
    walk.fields[0] = walk.from(architecture.layers(), 0, layer);
    walk.fields
}

/// On the way from a layer back to the input. Line `n` of the summary is `fields[n + 1]`.
struct Walk<'a> {
    architecture: &'a Architecture,
    fields: Vec<Option<Field>>,
}

impl Walk<'_> {
    /// What `target`, one of `layers` or inside one, sees of the image before them; the first has line `line`.
    fn from(&mut self, layers: &[NamedLayer], line: usize, target: usize) -> Option<Field> {
        let lines = lines(layers, line);
        let index = lines.iter().position(|lines| lines.contains(&target))?;
        let (layer, line) = (&layers[index].layer, lines[index].start);
        let field = match layer {
            Layer::Residual(residual) if line != target => {
                let shortcut = line + 1 + count(&residual.branch);
                self.from(&residual.branch, line + 1, target)
                    .or_else(|| self.from(&residual.shortcut, shortcut, target))?
            }
            _ => {
                self.fields[line + 1] = Some(Field::ITSELF);
                self.through(layer, line, Field::ITSELF)
            }
        };
        Some(self.back(&layers[..index], lines.first()?.start, field))
    }

    /// What is seen of the image before `layers`, if of the one behind them it is `field`.
    fn back(&mut self, layers: &[NamedLayer], line: usize, mut field: Field) -> Field {
        for (layer, lines) in layers.iter().zip(lines(layers, line)).rev() {
            self.fields[lines.start + 1] = Some(field);
            field = self.through(&layer.layer, lines.start, field);
        }
        field
    }

    fn through(&mut self, layer: &Layer, line: usize, field: Field) -> Field {
        match layer {
            Layer::Residual(residual) => {
                let branch = self.back(&residual.branch, line + 1, field);
                branch.union(self.back(&residual.shortcut, line + 1 + count(&residual.branch), field))
            }
            Layer::FrequencyCollapse => {
                let before = match line.checked_sub(1) {
                    Some(line) => self.architecture.summary()[line].output,
                    None => self.architecture.input(),
                };
                let bins = before.frequency as i64;
                Field { frequency: Span { stride: 0, before: 0, after: bins - 1 }, ..field }
            }
            _ => {
                let [time, frequency] = layer.windows();
                Field { time: field.time.through(time), frequency: field.frequency.through(frequency) }
            }
        }
    }
}

/// The lines of the summary that each layer takes, the first from `line` on.
fn lines(layers: &[NamedLayer], mut line: usize) -> Vec<std::ops::Range<usize>> {
    let lines = layers.iter().map(|layer| {
        let start = line;
        line += count(std::slice::from_ref(layer));
        start..line
    });
    lines.collect()
}

/// Lines that `layers` take.
fn count(layers: &[NamedLayer]) -> usize {
    let inside = |layer: &NamedLayer| match &layer.layer {
        Layer::Residual(residual) => count(&residual.branch) + count(&residual.shortcut),
        _ => 0,
    };
    layers.iter().map(|layer| 1 + inside(layer)).sum()
}
