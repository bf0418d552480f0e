//! How fast a viewer who is behind gets what it misses. The caller decides; reasons and figures are with its defaults.

#![forbid(unsafe_code)]

#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Packets per second to one viewer.
    pub rate: f64,
    /// Packets to one viewer at once; more than the least where the caller was late.
    pub slice_least: usize,
    pub slice_most: usize,
    /// Packets per `catch_up` to all viewers together.
    pub tick_most: usize,
    /// Seconds that a socket may be full before its viewer goes on at the next key frame.
    pub stuck: f64,
    /// Packets that a viewer may be behind because of a full socket.
    pub backlog: u64,
    /// Packets ahead of a newer key frame that are worth sending.
    pub skip: u64,
    /// From the newest timestamp to the first one of a group that a viewer gets again.
    pub refresh_step: u32,
}

impl Pace {
    /// Packets for a viewer whose last slice was so many seconds ago.
    #[must_use]
    pub fn slice(&self, elapsed: f64) -> usize {
        let earned = (elapsed * self.rate).round().max(0.0) as usize;
        earned.max(self.slice_least).min(self.slice_most)
    }
}
