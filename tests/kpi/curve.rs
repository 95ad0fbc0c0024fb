//! From what was measured with one thread and with several to what more threads would take.

/// Time over threads: a part that every thread shares and a part that they divide, `serial + parallel / threads`, both
/// from two measured points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    serial: f64,
    parallel: f64,
}

impl Curve {
    /// Through the time with one thread and that with `threads` (at least two). Where more threads made it slower, it
    /// does not get faster with yet more; where they were faster than their number, the whole is divided.
    pub fn through(one: f64, threads: f64, several: f64) -> Self {
        let parallel = ((one - several) / (1.0 - 1.0 / threads)).max(0.0);
        let serial = several - parallel / threads;
        if serial < 0.0 {
            return Self {
                serial: 0.0,
                parallel: several * threads,
            };
        }
        Self { serial, parallel }
    }

    /// The time with this many threads.
    pub fn at(self, threads: f64) -> f64 {
        self.serial + self.parallel / threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_what_was_measured_and_never_promises_more_than_division() {
        let curve = Curve::through(10.0, 2.0, 6.0);
        assert!((curve.at(1.0) - 10.0).abs() < 1e-9 && (curve.at(2.0) - 6.0).abs() < 1e-9);
        assert!((curve.at(4.0) - 4.0).abs() < 1e-9);
        assert!((Curve::through(10.0, 2.0, 4.0).at(4.0) - 2.0).abs() < 1e-9);
        assert!((Curve::through(10.0, 2.0, 11.0).at(4.0) - 11.0).abs() < 1e-9);
    }
}
