//! The rows a stage still needs: a sliding window over time.

use super::pipeline::{Scratch, Tools};

/// How a stage looks at time.
#[derive(Debug, Clone, Copy)]
pub struct RowWindowSettings<T = f32> {
    /// Rows under one output.
    pub span: usize,
    /// Rows from one output to the next.
    pub stride: usize,
    /// Padding rows before the first.
    pub past: usize,
    /// Padding rows after the last.
    pub future: usize,
    /// Values in a row as it comes.
    pub input: usize,
    /// Padding values before them.
    pub low: usize,
    /// Values in a row as stored, padding on both sides included.
    pub row: usize,
    /// What padding is made of.
    pub padding: T,
}

impl<T> RowWindowSettings<T> {
    /// Outputs that look at nothing but the first `values`.
    fn outputs(&self, values: usize) -> usize {
        (values / self.row).checked_sub(self.span).map_or(0, |rest| rest / self.stride + 1)
    }

    /// Whether each output sees one row as it comes, so that nothing needs to be kept.
    fn is_one_row(&self) -> bool {
        (self.span, self.stride, self.past, self.future) == (1, 1, 0, 0) && self.row == self.input
    }
}

/// What comes as rows: has room among a thread's [`Tools`].
pub trait Value: Copy + Default {
    fn room(scratch: &mut Scratch) -> &mut Rows<Self>;
}

impl Value for f32 {
    fn room(scratch: &mut Scratch) -> &mut Rows {
        &mut scratch.rows
    }
}

impl Value for u8 {
    fn room(scratch: &mut Scratch) -> &mut Rows<u8> {
        &mut scratch.bytes
    }
}

/// The rows of one stream that are still needed, in order and without gaps, padding included.
pub struct RowWindow<T = f32> {
    settings: RowWindowSettings<T>,
    kept: Vec<T>,
    /// Coming rows that no output looks at: strides may exceed the span.
    skip: usize,
}

impl<T: Value> RowWindow<T> {
    pub fn new(settings: RowWindowSettings<T>) -> Self {
        let mut window = Self { settings, kept: Vec::new(), skip: 0 };
        window.reset();
        window
    }

    pub fn reset(&mut self) {
        self.skip = 0;
        self.kept.clear();
        self.kept.resize(self.settings.past * self.settings.row, self.settings.padding);
    }

    /// Takes `rows` and at the `end` the padding that stands for the future, and has the outputs made that are then ready,
    /// `output` values each: `work(rows still needed, made, tools)` makes them.
    pub fn step<O: Copy + Default>(
        &mut self,
        rows: &[T],
        end: bool,
        output: usize,
        tools: &mut Tools,
        made: &mut Rows<O>,
        work: impl FnOnce(&[T], &mut [O], &mut Tools),
    ) {
        if self.settings.is_one_row() {
            let made = made.resize(rows.len() / self.settings.input * output);
            if !rows.is_empty() {
                work(rows, made, tools);
            }
            return;
        }
        if self.kept.is_empty() && self.skip == 0 && self.settings.row == self.settings.input && !end {
            // What comes is all there is, and lies as it is to be looked at.
            let outputs = self.settings.outputs(rows.len());
            let made = made.resize(outputs * output);
            if outputs > 0 {
                work(rows, made, tools);
            }
            return self.keep(rows, outputs);
        }
        // The thread's room, where the last stage worked, is in its cache; one of this stage's own would not be.
        let mut room = std::mem::take(T::room(&mut tools.scratch));
        self.append(rows, &mut room);
        let outputs = self.ready(end, &mut room);
        let made = made.resize(outputs * output);
        if outputs > 0 {
            work(&room, made, tools);
        }
        self.keep(&room, outputs);
        *T::room(&mut tools.scratch) = room;
    }

    fn append(&mut self, rows: &[T], room: &mut Rows<T>) {
        let RowWindowSettings { input, low, row, padding, .. } = self.settings;
        let count = rows.len() / input;
        let space = self.space(count, room);
        let rows = &rows[(count - space.len() / row) * input..];
        if row == input {
            return space.copy_from_slice(rows);
        }
        for (space, values) in space.chunks_exact_mut(row).zip(rows.chunks_exact(input)) {
            let (before, space) = space.split_at_mut(low);
            let (inside, behind) = space.split_at_mut(input);
            before.fill(padding);
            inside.copy_from_slice(values);
            behind.fill(padding);
        }
    }

    /// Has the `room` hold the rows kept and gives the place behind them of `count` more, less those that no output looks at.
    pub fn space<'a>(&mut self, count: usize, room: &'a mut Rows<T>) -> &'a mut [T] {
        let skipped = self.skip.min(count);
        self.skip -= skipped;
        let (kept, space) =
            room.resize(self.kept.len() + (count - skipped) * self.settings.row).split_at_mut(self.kept.len());
        kept.copy_from_slice(&self.kept);
        space
    }

    /// The number of outputs whose rows are all in the `room`, at the `end` with the padding that stands for the future.
    pub fn ready(&self, end: bool, room: &mut Rows<T>) -> usize {
        let RowWindowSettings { future, row, padding, .. } = self.settings;
        if end {
            let len = room.len();
            // The first of them may be among those that no output looks at.
            room.resize(len + future.saturating_sub(self.skip) * row)[len..].fill(padding);
        }
        self.settings.outputs(room.len())
    }

    /// Keeps what further outputs will look at when the first `outputs` in the `room` are made.
    pub fn keep(&mut self, room: &[T], outputs: usize) {
        let used = outputs * self.settings.stride * self.settings.row;
        self.kept.clear();
        self.kept.extend_from_slice(room.get(used..).unwrap_or_default());
        self.skip += used.saturating_sub(room.len()) / self.settings.row;
    }
}

/// Values on their way from one stage to the next. What is not yet written is left from earlier use: filling it first
/// would cost as much as a cheap stage.
#[derive(Default)]
pub struct Rows<T = f32> {
    values: Vec<T>,
    len: usize,
}

impl<T: Copy + Default> Rows<T> {
    /// Makes the length `len` and gives the values to be written.
    pub fn resize(&mut self, len: usize) -> &mut [T] {
        if self.values.len() < len {
            self.values.resize(len, T::default());
        }
        self.len = len;
        &mut self.values[..len]
    }

    /// Holds a copy of `values`.
    pub fn copy_from(&mut self, values: &[T]) {
        self.resize(values.len()).copy_from_slice(values);
    }

    /// Holds a copy of `values` behind what it holds already.
    pub fn extend(&mut self, values: &[T]) {
        let len = self.len;
        self.resize(len + values.len())[len..].copy_from_slice(values);
    }
}

impl<T> std::ops::Deref for Rows<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[..self.len]
    }
}

impl<T> std::ops::DerefMut for Rows<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.len]
    }
}

/// What one stage gives the next: floats or bytes, and none of the other.
#[derive(Default)]
pub struct Flow {
    pub floats: Rows<f32>,
    pub bytes: Rows<u8>,
}

impl Flow {
    pub fn clear(&mut self) {
        self.floats.resize(0);
        self.bytes.resize(0);
    }

    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.bytes.is_empty()
    }

    /// Holds a copy of `floats`.
    pub fn copy_floats(&mut self, floats: &[f32]) {
        self.floats.copy_from(floats);
        self.bytes.resize(0);
    }

    /// Holds a copy of `other`.
    pub fn copy_from(&mut self, other: &Self) {
        self.floats.copy_from(&other.floats);
        self.bytes.copy_from(&other.bytes);
    }

    /// Holds a copy of `other` behind what it holds already.
    pub fn extend(&mut self, other: &Self) {
        self.floats.extend(&other.floats);
        self.bytes.extend(&other.bytes);
    }
}

/// Values that wait for others.
#[derive(Default)]
pub struct Waiting {
    pub floats: Vec<f32>,
    pub bytes: Vec<u8>,
}

impl Waiting {
    pub fn clear(&mut self) {
        self.floats.clear();
        self.bytes.clear();
    }

    pub fn extend(&mut self, flow: &Flow) {
        self.floats.extend_from_slice(&flow.floats);
        self.bytes.extend_from_slice(&flow.bytes);
    }

    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.bytes.is_empty()
    }

    /// Forgets the first so many of each.
    pub fn forget(&mut self, floats: usize, bytes: usize) {
        self.floats.drain(..floats);
        self.bytes.drain(..bytes);
    }
}
