//! Many items for a few workers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use dfcnn::Result;

/// Gives all items to the workers, each at work on one at a time, until `stop` is set or `go_on`, which is shown every
/// outcome as it comes, says no. The outcomes are in the items' order; those that were not come to are `None`.
pub fn all<I: Sync, T: Send>(
    items: &[I],
    workers: Vec<impl FnMut(&I) -> Result<T> + Send>,
    stop: &AtomicBool,
    mut go_on: impl FnMut(&Result<T>) -> bool,
) -> Vec<Option<Result<T>>> {
    let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut outcomes: Vec<Option<Result<T>>> = items.iter().map(|_| None).collect();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for mut work in workers {
            let (sender, next, ended) = (sender.clone(), &next, &ended);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    if sender.send((index, work(item))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (index, outcome) in receiver {
            if !go_on(&outcome) {
                ended.store(true, Ordering::Relaxed);
            }
            outcomes[index] = Some(outcome);
        }
    });
    outcomes
}
