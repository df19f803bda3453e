//! The rows a stage still needs: a sliding window over time.

use super::Crew;

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
    /// Whether each output sees one row as it comes, so that nothing needs to be kept.
    fn is_one_row(&self) -> bool {
        (self.span, self.stride, self.past, self.future) == (1, 1, 0, 0) && self.row == self.input
    }
}

/// The rows of one stream that are still needed, in order and without gaps. Every value beyond a row's own bins is
/// padding and stays so: rows are only ever moved whole.
pub struct RowWindow<T = f32> {
    settings: RowWindowSettings<T>,
    values: Vec<T>,
    /// The first row still needed.
    start: usize,
    rows: usize,
    /// Coming rows that no output looks at: strides may exceed the span.
    skip: usize,
}

impl<T: Copy + Send + Sync> RowWindow<T> {
    pub fn new(settings: RowWindowSettings<T>) -> Self {
        let mut window = Self { settings, values: Vec::new(), start: 0, rows: 0, skip: 0 };
        window.reset();
        window
    }

    pub fn reset(&mut self) {
        (self.start, self.rows, self.skip) = (0, 0, 0);
        self.append_padding(self.settings.past);
    }

    /// Takes `rows` and at the `end` the padding that stands for the future, and lets the crew make the outputs that are
    /// then ready, `output` values each: `work(rows still needed, first, made)` makes those from output `first` on.
    pub fn step<O: Copy + Default + Send>(
        &mut self,
        rows: &[T],
        end: bool,
        output: usize,
        crew: &Crew,
        made: &mut Rows<O>,
        work: impl Fn(&[T], usize, &mut [O]) + Sync,
    ) {
        if self.settings.is_one_row() {
            let made = made.resize(rows.len() / self.settings.input * output);
            return crew.share([made], output, |first, [made]| work(rows, first, made));
        }
        self.append(rows, crew);
        if end {
            self.append_future();
        }
        let outputs = self.ready();
        let needed = self.values();
        crew.share([made.resize(outputs * output)], output, |first, [made]| work(needed, first, made));
        self.advance(outputs);
    }

    fn append(&mut self, rows: &[T], crew: &Crew) {
        let RowWindowSettings { input, low, row, .. } = self.settings;
        let skipped = self.skip.min(rows.len() / input);
        let space = self.space(rows.len() / input);
        crew.share([space], row, |first, [space]| {
            let rows = rows[(skipped + first) * input..].chunks_exact(input);
            for (space, values) in space.chunks_exact_mut(row).zip(rows) {
                space[low..low + input].copy_from_slice(values);
            }
        });
    }

    /// Appends `count` rows, less those that no output looks at, and gives their place.
    pub fn space(&mut self, count: usize) -> &mut [T] {
        let skipped = self.skip.min(count);
        self.skip -= skipped;
        let count = count - skipped;
        self.make_room(count);
        let row = self.settings.row;
        let at = (self.start + self.rows) * row;
        self.rows += count;
        &mut self.values[at..at + count * row]
    }

    fn append_padding(&mut self, count: usize) {
        let padding = self.settings.padding;
        self.space(count).fill(padding);
    }

    /// Appends the padding rows that stand for the future.
    pub fn append_future(&mut self) {
        self.append_padding(self.settings.future);
    }

    fn make_room(&mut self, count: usize) {
        let row = self.settings.row;
        let capacity = self.values.len() / row;
        if self.start + self.rows + count <= capacity {
            return;
        }
        self.values.copy_within(self.start * row..(self.start + self.rows) * row, 0);
        self.start = 0;
        let needed = self.rows + count;
        if needed > capacity {
            self.values.resize(2 * needed * row, self.settings.padding);
        }
    }

    /// Outputs whose rows are all there.
    pub fn ready(&self) -> usize {
        match self.rows.checked_sub(self.settings.span) {
            Some(rest) => rest / self.settings.stride + 1,
            None => 0,
        }
    }

    /// Forgets the rows that only the next `outputs` outputs looked at.
    pub fn advance(&mut self, outputs: usize) {
        let used = outputs * self.settings.stride;
        let kept = self.rows.saturating_sub(used);
        self.skip += used - (self.rows - kept);
        self.start += self.rows - kept;
        self.rows = kept;
    }

    /// The rows still needed, `[rows, row]`.
    pub fn values(&self) -> &[T] {
        &self.values[self.start * self.settings.row..][..self.rows * self.settings.row]
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
