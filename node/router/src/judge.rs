//! Policies at work: from names to judges of certificates.

use std::collections::BTreeMap;
use std::sync::Arc;

use cocoon_attest::{PolicyMode, TrustRoots};
use cocoon_ratls::{AnyPeer, AttestedPeer, CollateralSource, PeerPolicy};
use cocoon_role_router::{PolicySpec, PolicyTable, RouterFault};

/// Judges by name, made once: a policy's verdicts are remembered for all its ports.
pub(crate) struct Judges {
    table: PolicyTable,
    roots: TrustRoots,
    collateral: Arc<dyn CollateralSource>,
    made: BTreeMap<String, Arc<dyn PeerPolicy>>,
}

impl Judges {
    /// Makes a judge for every policy that can be used here.
    pub(crate) fn new(
        table: PolicyTable,
        roots: TrustRoots,
        collateral: Arc<dyn CollateralSource>,
    ) -> Self {
        let mut judges = Self { table, roots, collateral, made: BTreeMap::new() };
        let named: Vec<(String, PolicySpec)> =
            judges.table.iter().map(|(name, spec)| (name.to_owned(), spec.clone())).collect();
        for (name, spec) in named {
            // A built-in name of another build is told to whoever asks for it.
            if let Ok(judge) = judges.make(&name, &spec) {
                judges.made.insert(name, judge);
            }
        }
        judges
    }

    /// The judge that a port's text asks for.
    pub(crate) fn of_port(&mut self, text: &str) -> Result<Arc<dyn PeerPolicy>, RouterFault> {
        if let Some(judge) = self.made.get(text) {
            return Ok(Arc::clone(judge));
        }
        let spec = self.table.find(text)?;
        let judge = self.make(text, &spec)?;
        self.made.insert(text.to_owned(), Arc::clone(&judge));
        Ok(judge)
    }

    /// The judge that a SOCKS user name asks for.
    pub(crate) fn of_user(&self, user: &[u8]) -> Option<Arc<dyn PeerPolicy>> {
        let (name, _) = self.table.named(user)?;
        self.made.get(name).cloned()
    }

    fn make(&self, name: &str, spec: &PolicySpec) -> Result<Arc<dyn PeerPolicy>, RouterFault> {
        let policy = spec.policy(name, &self.roots)?;
        if policy.mode == PolicyMode::Any {
            return Ok(Arc::new(AnyPeer));
        }
        let made = AttestedPeer::new(policy, Arc::clone(&self.collateral));
        let fault = |reason: String| RouterFault::Policy { name: name.to_owned(), reason };
        Ok(Arc::new(made.map_err(|reason| fault(reason.to_string()))?))
    }
}
