//! Which registers have changed lately, so that they are marked for a moment.

use std::collections::HashMap;

use crate::register_rows::{Group, Row};

/// How long a change is marked, in seconds.
pub const FADE_SECONDS: f64 = 1.2;

/// Remembers values, and when each of them last changed.
#[derive(Default)]
pub struct Changes {
    seen: HashMap<(Group, String), (String, Option<f64>)>,
}

impl Changes {
    /// Forgets everything: another vCPU or another machine is looked at.
    pub fn clear(&mut self) {
        self.seen.clear();
    }

    /// How strongly the value is to be marked at `now`, 0 to 1.
    pub fn mark(&mut self, group: Group, row: &Row, now: f64) -> f32 {
        let key = (group, row.name.clone());
        let (value, changed) = self.seen.entry(key).or_insert_with(|| (row.value.clone(), None));
        if *value != row.value {
            value.clone_from(&row.value);
            *changed = Some(now);
        }
        changed.map_or(0.0, |at| (1.0 - (now - at) / FADE_SECONDS).clamp(0.0, 1.0) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register_rows::wide;

    #[test]
    fn a_change_is_marked_and_fades() {
        let mut changes = Changes::default();
        let old = wide("RAX", 1);
        assert_eq!(changes.mark(Group::General, &old, 0.0), 0.0);
        let new = wide("RAX", 2);
        assert_eq!(changes.mark(Group::General, &new, 1.0), 1.0);
        let half = changes.mark(Group::General, &new, 1.0 + FADE_SECONDS / 2.0);
        assert!((half - 0.5).abs() < 0.01);
        assert_eq!(changes.mark(Group::General, &new, 9.0), 0.0);
    }
}
