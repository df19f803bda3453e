//! What tells that a run has gone wrong although every number is finite.

use std::fmt;

use super::checkpoint::State;
use super::objective::Outcome;

/// Steps of silence after which a network is said to have collapsed. Every network begins on the blank plateau, some stay
/// for 700 steps.
const BLANK_STEPS: u64 = 1500;
/// How far the smoothed loss may rise above its lowest, in nats per label. A curriculum's longer utterances raise it less.
const RISE: f64 = 1.5;

/// Something that training will not get out of by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Alarm {
    /// The smoothed loss per label has risen far above what it was.
    Divergence {
        /// In nats.
        loss: f64,
        /// In nats.
        lowest: f64,
    },
    /// The network says nothing about nearly all utterances.
    BlankCollapse {
        /// For how long.
        steps: u64,
    },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Divergence { loss, lowest } => write!(
                f,
                "divergence: the loss per label is {loss:.2} nats and has been {lowest:.2}; begin anew from the best model \
                 with a lower learning rate (--init-from)"
            ),
            Self::BlankCollapse { steps } => write!(
                f,
                "blank collapse: for {steps} steps the network has said nothing about 95 % of the utterances; begin with \
                 short, clean utterances, smaller batches or a lower learning rate"
            ),
        }
    }
}

/// Takes notice of a step after which the smoothed loss per label is `loss`. Each alarm comes once, and again if things have
/// become as much worse.
pub fn watch(state: &mut State, loss: f64, outcome: &Outcome) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    let lowest = state.lowest_loss.map_or(loss, |lowest| lowest.min(loss));
    let diverges = loss > lowest + RISE;
    if diverges {
        alarms.push(Alarm::Divergence { loss, lowest });
    }
    state.lowest_loss = Some(if diverges { loss } else { lowest });
    let mostly_empty = 20 * outcome.empty >= 19 * outcome.utterances;
    state.blank_steps = if mostly_empty { state.blank_steps + 1 } else { 0 };
    if state.blank_steps > 0 && state.blank_steps.is_multiple_of(BLANK_STEPS) {
        alarms.push(Alarm::BlankCollapse { steps: state.blank_steps });
    }
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(empty: usize) -> Outcome {
        Outcome { empty, utterances: 20, labels: 100, finite: true, loss: 1.0 }
    }

    #[test]
    fn a_loss_that_rises_is_an_alarm_each_time() {
        let mut state = State::default();
        let mut alarms = |loss| watch(&mut state, loss, &outcome(0));
        for loss in [3.0, 2.0, 1.0, 2.4, 1.1] {
            assert_eq!(alarms(loss), []);
        }
        assert_eq!(alarms(2.6), [Alarm::Divergence { loss: 2.6, lowest: 1.0 }]);
        assert_eq!(alarms(3.0), []);
        assert_eq!(alarms(4.2), [Alarm::Divergence { loss: 4.2, lowest: 2.6 }]);
    }

    #[test]
    fn silence_that_lasts_is_an_alarm() {
        let mut state = State::default();
        let mut alarms = |empty| watch(&mut state, 2.0, &outcome(empty));
        assert!((1..BLANK_STEPS).all(|_| alarms(19).is_empty()));
        assert_eq!(alarms(20), [Alarm::BlankCollapse { steps: BLANK_STEPS }]);
        assert!((1..BLANK_STEPS).all(|_| alarms(20).is_empty()));
        assert_eq!(alarms(18), [], "a tenth was heard");
        assert!((1..BLANK_STEPS).all(|_| alarms(19).is_empty()));
        assert_eq!(alarms(19).len(), 1);
    }
}
