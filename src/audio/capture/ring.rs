//! From the callback, which may neither allocate nor wait, to a thread that may: a lock-free ring that drops its oldest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

/// Samples that go into the ring at once.
const BLOCK_SAMPLES: usize = 128;

/// A few mono samples.
#[derive(Clone, Copy)]
struct Block {
    samples: [f32; BLOCK_SAMPLES],
    length: usize,
    /// When the last of them was heard.
    heard_at: Instant,
}

impl Block {
    fn samples(&self) -> &[f32] {
        &self.samples[..self.length]
    }
}

/// A ring for `capacity_s` seconds of sound at `rate_hz`, if it is written in whole blocks.
pub fn ring(rate_hz: u32, capacity_s: f64) -> (Writer, Reader) {
    let blocks = (capacity_s * f64::from(rate_hz) / BLOCK_SAMPLES as f64).ceil() as usize;
    let blocks = Arc::new(ArrayQueue::new(blocks.max(2)));
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = Writer { blocks: Arc::clone(&blocks), dropped: Arc::clone(&dropped), rate_hz };
    (writer, Reader { blocks, dropped })
}

/// The end that the callback holds.
pub struct Writer {
    blocks: Arc<ArrayQueue<Block>>,
    dropped: Arc<AtomicU64>,
    rate_hz: u32,
}

impl Writer {
    /// Takes `samples`, the last of which was heard at `heard_at`. Where there is no room, the oldest go and are counted.
    /// Neither allocates nor locks.
    pub fn write(&mut self, samples: impl ExactSizeIterator<Item = f32>, heard_at: Instant) {
        let mut later = samples.len();
        let mut block = Block { samples: [0.0; BLOCK_SAMPLES], length: 0, heard_at };
        for sample in samples {
            block.samples[block.length] = sample;
            block.length += 1;
            later -= 1;
            if block.length == BLOCK_SAMPLES || later == 0 {
                let before = Duration::from_secs_f64(later as f64 / f64::from(self.rate_hz));
                block.heard_at = heard_at.checked_sub(before).unwrap_or(heard_at);
                if let Some(oldest) = self.blocks.force_push(block) {
                    self.dropped.fetch_add(oldest.length as u64, Ordering::Relaxed);
                }
                block.length = 0;
            }
        }
    }

    /// Whether `samples` samples can be written without dropping any.
    pub fn has_room(&self, samples: usize) -> bool {
        samples.div_ceil(BLOCK_SAMPLES) <= self.blocks.capacity() - self.blocks.len()
    }
}

/// The end that the thread holds.
pub struct Reader {
    blocks: Arc<ArrayQueue<Block>>,
    dropped: Arc<AtomicU64>,
}

impl Reader {
    /// Appends what is there, at most about `most` samples, to `samples`, and tells when the last of them was heard; nothing
    /// if nothing is there.
    pub fn read(&mut self, samples: &mut Vec<f32>, most: usize) -> Option<Instant> {
        let end = samples.len() + most;
        let mut heard_at = None;
        while samples.len() < end
            && let Some(block) = self.blocks.pop()
        {
            samples.extend_from_slice(block.samples());
            heard_at = Some(block.heard_at);
        }
        heard_at
    }

    /// Samples dropped since the last time that this was asked.
    pub fn take_dropped(&mut self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_full_ring_drops_its_oldest_and_counts_them() {
        let (mut writer, mut reader) = ring(1_280, 1.0); // ten blocks
        assert!(writer.has_room(1_280) && !writer.has_room(1_281));
        let now = Instant::now();
        writer.write((0..2_000).map(|index| index as f32), now);
        let mut samples = Vec::new();
        assert_eq!(reader.read(&mut samples, 100_000), Some(now));
        // 15 whole blocks and one of 80 samples: the last ten stay
        assert_eq!(samples, (768..2_000).map(|index| index as f32).collect::<Vec<_>>());
        assert_eq!((reader.take_dropped(), reader.take_dropped()), (768, 0));
        assert_eq!(reader.read(&mut samples, 1), None);
    }

    #[test]
    fn every_block_knows_when_it_was_heard() {
        let (mut writer, mut reader) = ring(1_000, 9.0);
        let now = Instant::now();
        writer.write((0..300).map(|_| 0.5), now);
        let mut samples = Vec::new();
        assert_eq!(reader.read(&mut samples, 1), Some(now - Duration::from_millis(172)));
        assert_eq!(reader.read(&mut samples, 200), Some(now));
        assert_eq!(samples.len(), 300);
    }

    #[test]
    fn nothing_is_lost_between_threads_that_keep_up() {
        let (mut writer, mut reader) = ring(16_000, 1.0);
        let hear = thread::spawn(move || {
            let mut samples = Vec::new();
            while samples.len() < 100_000 {
                if reader.read(&mut samples, 4_000).is_none() {
                    thread::yield_now();
                }
            }
            (samples, reader.take_dropped())
        });
        let all: Vec<f32> = (0..100_000).map(|index| index as f32).collect();
        for piece in all.chunks(777) {
            while !writer.has_room(piece.len()) {
                thread::yield_now();
            }
            writer.write(piece.iter().copied(), Instant::now());
        }
        assert_eq!(hear.join().unwrap(), (all, 0));
    }
}
