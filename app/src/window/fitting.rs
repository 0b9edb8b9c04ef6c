//! The size of a guest's monitor follows the window's, where the guest hears of it.

use std::time::Duration;

use super::machines::Id;

/// How long the window must keep a size: a guest that sets a mode for each step of a drag shows nothing.
const SETTLES_AFTER: Duration = Duration::from_millis(300);

/// Who was told which size, and which one waits.
#[derive(Default)]
pub struct Fitting {
    told: Option<(Id, [u32; 2])>,
    waiting: Option<(Id, [u32; 2], f64)>,
}

impl Fitting {
    /// There is room for a monitor of `size` pixels for machine `id` at `now_seconds`: the size to tell it, or when to ask again.
    pub fn ask(&mut self, id: Id, size: [u32; 2], now_seconds: f64) -> Result<[u32; 2], Option<Duration>> {
        if self.told == Some((id, size)) {
            self.waiting = None;
            return Err(None);
        }
        let since = match self.waiting {
            Some((whose, same, since)) if (whose, same) == (id, size) => since,
            _ => now_seconds,
        };
        self.waiting = Some((id, size, since));
        let left = SETTLES_AFTER.as_secs_f64() - (now_seconds - since);
        if left > 0.0 {
            return Err(Some(Duration::from_secs_f64(left)));
        }
        self.told = Some((id, size));
        self.waiting = None;
        Ok(size)
    }

    /// The guest hears of no size now; it is told anew when it does.
    pub fn forget(&mut self) {
        *self = Fitting::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_told_once_when_it_has_settled() {
        let (mut fitting, id) = (Fitting::default(), Id::default());
        assert!(fitting.ask(id, [800, 600], 10.0).unwrap_err().is_some());
        assert!(fitting.ask(id, [801, 600], 10.2).unwrap_err().is_some());
        assert!(fitting.ask(id, [801, 600], 10.4).unwrap_err().is_some(), "another since 10.2");
        assert_eq!(fitting.ask(id, [801, 600], 10.6), Ok([801, 600]));
        assert_eq!(fitting.ask(id, [801, 600], 20.0), Err(None));
        fitting.forget();
        assert!(fitting.ask(id, [801, 600], 20.0).unwrap_err().is_some());
    }
}
