//! A periodic timer on the kernel's clock. tokio's own timer rounds up to a millisecond, which would be most of what an
//! open loop measures.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Ticks at `start + n * period`, `n` from 1, whether or not anybody waits.
#[derive(Debug)]
pub(crate) struct Ticker {
    timer: AsyncFd<OwnedFd>,
    start: Instant,
    period: Duration,
    ticks: u32,
}

impl Ticker {
    /// Starts ticking. `period` must be less than a second.
    pub(crate) fn start(period: Duration) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "what its replacement makes the caller promise, in unsafe, an OwnedFd keeps"
        )]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        let interval = Timespec { tv_sec: 0, tv_nsec: period.subsec_nanos().into() };
        let start = Instant::now();
        timerfd_settime(
            timer.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: interval, it_value: interval },
        )?;
        Ok(Self { timer, start, period, ticks: 0 })
    }

    /// Waits for the next tick and returns the moments of all that have passed since the last wait.
    pub(crate) async fn wait(&mut self) -> io::Result<impl Iterator<Item = Instant> + use<>> {
        let mut expirations = [0; 8];
        self.timer
            .async_io(Interest::READABLE, |timer| {
                rustix::io::read(timer, &mut expirations).map_err(Errno::into)
            })
            .await?;
        let passed = u32::try_from(u64::from_ne_bytes(expirations)).expect("fewer ticks than fit a run");
        let (start, period, before) = (self.start, self.period, self.ticks);
        self.ticks += passed;
        Ok((1..=passed).map(move |tick| start + period * (before + tick)))
    }
}
