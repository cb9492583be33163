//! How the writer comes by its file: at once, as a rule, or when a disk that takes nothing has come to take something.

use super::{WriteError, Writer, batch::Batch};
use crate::{
    accounts::{LossReason, Opening},
    chain::chain,
    ground::{Ground, GroundError},
    lock::Noted,
    recover,
    ring::Positions,
    trouble,
};

impl Writer {
    /// There is no file to write to for now; it is looked for again and again.
    pub(crate) fn wait_for(&mut self, error: GroundError) {
        self.tell(Some(&error.into()));
        self.failing = true;
    }

    /// Looks for the file if there is none yet.
    pub(super) fn find_ground(&mut self) -> Result<(), WriteError> {
        if self.spool_id.is_some() {
            return Ok(());
        }
        let found = self.found.take().map_or_else(|| Ground::prepare(&self.site, &self.left), Ok);
        let stood = found.and_then(|ground| {
            let (left, emptied) = (ground.left.clone(), ground.emptied.clone());
            self.stand_on(ground).map(|()| (left, emptied))
        });
        let (left, emptied) = stood.inspect_err(|_| self.show_all())?;
        self.left = left;
        self.note(emptied.iter().cloned().map(Noted::planned).collect());
        recover::delete(&emptied);
        self.note(Vec::new());
        Ok(())
    }

    /// Takes the file into use, or tries again later if what keeps it from that may pass. An error will not.
    pub(crate) fn start_on(&mut self, ground: Ground) -> Result<(), GroundError> {
        match self.stand_on(ground) {
            Err(error) if error.is_passing(&self.site) => {
                self.wait_for(error);
                Ok(())
            }
            result => result,
        }
    }

    /// Takes the file into use. What is in the queue already is from an earlier process. What cannot be read now is
    /// kept for the next attempt.
    fn stand_on(&mut self, ground: Ground) -> Result<(), GroundError> {
        let known = match self.ask(&ground) {
            Ok(known) => known,
            Err(error) => {
                self.found = Some(ground);
                return Err(error);
            }
        };
        let queued = self.drain.resume(&known);
        self.round.forget();
        // Whoever prepared the ground has written the gap down.
        self.gaps.skip(LossReason::Corrupt, ground.opening.corrupt);
        self.notebook.hold();
        if ground.set_aside {
            self.shared.count_set_aside();
        }
        self.shared.ledger.begin(Opening { queued, ..ground.opening });
        self.shared.tell_open(ground.spool_id);
        self.quota = ground.quota;
        self.spool_id = Some(ground.spool_id);
        self.connection = Some(ground.connection);
        Ok(())
    }

    /// What the file knows of the queue.
    fn ask(&mut self, ground: &Ground) -> Result<Positions, GroundError> {
        self.site.tell_what_is_there(ground)?;
        match self.drain.known(&ground.connection) {
            // Nothing is known then; what the file has all the same is refused by its key.
            Err(error) if trouble::is_damage_at_open(&error) => {
                self.damaged = Some(chain(&error));
                Ok(Positions::new())
            }
            known => Ok(known?),
        }
    }

    /// Shows what cannot be written to whoever watches.
    fn show_all(&mut self) {
        let ranges: Vec<_> = self.round.ranges().iter().copied().collect();
        let mut batch = Batch {
            ranges: &ranges,
            target: self.site.target,
            refuse: false,
            retire: None,
            drain: &mut self.drain,
            sheet: &mut self.sheet,
            on_taken: &mut self.on_taken,
            gaps: &self.gaps,
            samples: &self.samples,
            bodies: &self.bodies,
            max_bytes: None,
        };
        batch.show_all();
    }
}
