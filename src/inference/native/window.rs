//! The rows a stage still needs: a sliding window over time.

/// How a stage looks at time.
#[derive(Debug, Clone, Copy)]
pub struct WindowSettings {
    /// Rows under one output.
    pub span: usize,
    /// Rows from one output to the next.
    pub stride: usize,
    /// Padding rows before the first.
    pub past: usize,
    /// Padding rows after the last.
    pub future: usize,
    /// Values in a row as stored.
    pub row: usize,
    /// What padding is made of.
    pub padding: f32,
}

/// The rows of one stream that are still needed, in order and without gaps. Every value beyond a row's own bins is
/// padding and stays so: rows are only ever moved whole.
pub struct Window {
    settings: WindowSettings,
    values: Vec<f32>,
    /// The first row still needed.
    start: usize,
    rows: usize,
    /// Coming rows that no output looks at: strides may exceed the span.
    skip: usize,
}

impl Window {
    pub fn new(settings: WindowSettings) -> Self {
        let mut window = Self { settings, values: Vec::new(), start: 0, rows: 0, skip: 0 };
        window.reset();
        window
    }

    pub fn reset(&mut self) {
        self.values.fill(self.settings.padding);
        (self.start, self.rows, self.skip) = (0, 0, 0);
        self.append_padding(self.settings.past);
    }

    /// Appends `count` rows made by `fill(index, row)`; a row's padding must be left alone.
    pub fn append(&mut self, count: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        let skipped = self.skip.min(count);
        self.skip -= skipped;
        self.make_room(count - skipped);
        let row = self.settings.row;
        for index in skipped..count {
            let at = (self.start + self.rows) * row;
            fill(index, &mut self.values[at..at + row]);
            self.rows += 1;
        }
    }

    fn append_padding(&mut self, count: usize) {
        let padding = self.settings.padding;
        self.append(count, |_, row| row.fill(padding));
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
    pub fn values(&self) -> &[f32] {
        &self.values[self.start * self.settings.row..][..self.rows * self.settings.row]
    }
}
