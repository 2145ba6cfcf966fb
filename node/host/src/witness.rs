//! What a node's TEE says to clients with whom it shares no connection.

use cocoon_attest::channel::{Announcement, ChannelRole, Offer};
use cocoon_attest::report::{Keyset, Report};
use cocoon_attest::tdx::{EventLog, GPU_EVENT};
use cocoon_attest::{Digest32, Measurement};
use cocoon_evidence::{EvidenceProvider, TeeKind};
use cocoon_wire::cocoon::{ENDORSEMENTS, VTPM_QUOTES};
use cocoon_wire::tl::Extensions;
use std::fmt;
use std::sync::Arc;

use crate::clock;
use crate::endorsement::EndorsementFile;

/// How long a report counts, seconds. A client asks anew whenever it wants to know.
const REPORT_LIFE_S: u64 = 3_600;

/// The node's TEE, as reports and receipts speak of it.
#[derive(Clone)]
pub struct Witness {
    provider: Option<Arc<dyn EvidenceProvider>>,
    own_key: Digest32,
    endorsement: EndorsementFile,
}

/// What a report is about besides the machine.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Role of this node.
    pub role: ChannelRole,
    /// Network.
    pub network_id: i32,
    /// Hash part of the root contract's address.
    pub root_contract: Digest32,
    /// Hash part of the owner's address.
    pub own_id: Digest32,
    /// The keys that the report vouches for.
    pub keyset: Keyset,
    /// Full name of the model; empty for none.
    pub model_name: String,
}

impl fmt::Debug for Witness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Witness").field("tee", &self.tee()).finish_non_exhaustive()
    }
}

impl Witness {
    pub(crate) fn new(
        provider: Option<Arc<dyn EvidenceProvider>>,
        own_key: Digest32,
        endorsement: EndorsementFile,
    ) -> Self {
        Self { provider, own_key, endorsement }
    }

    /// SHA-256 of the node's leaf key, by which its peers know it.
    #[must_use]
    pub const fn own_key(&self) -> Digest32 {
        self.own_key
    }

    /// The kind of TEE; nothing when there is none.
    #[must_use]
    pub fn tee(&self) -> Option<TeeKind> {
        self.provider.as_ref().map(|provider| provider.kind())
    }

    /// The image hash, as verifiers compute it that see the event log; zero without a TEE.
    ///
    /// # Errors
    /// The text says what is wrong with the TEE.
    pub fn image(&self) -> Result<Digest32, String> {
        let Some(provider) = &self.provider else { return Ok(Digest32::ZERO) };
        let mut measurement = provider.measurement().map_err(|fault| fault.to_string())?;
        let log = provider.event_log().and_then(|text| EventLog::read(&text).ok());
        if let (Measurement::Td(td), Some(log)) = (&mut measurement, log)
            && log.contains_prefix(GPU_EVENT)
        {
            let [_, _, _, rtmr3] = &mut td.rtmr;
            *rtmr3 = log.register_without(GPU_EVENT);
        }
        Ok(measurement.image_hash())
    }

    /// Digest of the GPU evidence of boot; zero for none.
    #[must_use]
    pub fn gpu(&self) -> Digest32 {
        self.provider
            .as_ref()
            .and_then(|provider| provider.gpu())
            .map(|gpu| gpu.digest())
            .unwrap_or_default()
    }

    /// Has the TEE vouch for `subject` over the nonce of whoever asks. Blocks for as long as the
    /// platform takes, tens of milliseconds. Without a TEE the report holds no evidence, and says
    /// so by that. Who announced to read an owner's endorsement or a vTPM's registers (`reads`) gets
    /// them, too.
    ///
    /// # Errors
    /// The text says what is wrong with the TEE.
    pub fn report(
        &self,
        subject: &Subject,
        nonce: [u8; 32],
        reads: Extensions,
    ) -> Result<Vec<u8>, String> {
        let announcement = Announcement {
            own_id: subject.own_id,
            image: self.image()?,
            gpu: self.gpu(),
            not_after_s: clock::now_ms() / 1000 + REPORT_LIFE_S,
            ..Announcement::default()
        };
        let mut report = Report {
            role: subject.role,
            own_key: self.own_key,
            network_id: subject.network_id,
            root_contract: subject.root_contract,
            keyset: subject.keyset,
            model_name: subject.model_name.clone(),
            offer: Offer { announcement: announcement.clone(), ..Offer::default() },
        };
        if let Some(provider) = &self.provider {
            let statement = report.statement(Digest32::from(nonce));
            let offer = provider.report(&statement).map_err(|fault| fault.to_string())?;
            let endorsed = reads.contains(ENDORSEMENTS);
            let endorsement = endorsed.then(|| self.endorsement.bytes()).flatten();
            let vtpm = offer.vtpm.filter(|_| reads.contains(VTPM_QUOTES));
            report.offer = Offer { announcement, endorsement, vtpm, ..offer };
        }
        Ok(report.encode())
    }
}
