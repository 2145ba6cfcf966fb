//! What a user demands of the machines, held against what this node can vouch for.

use cocoon_gateway::UpstreamError;
use cocoon_gateway::upstream::Wishes;

/// Refuses a request whose demands cannot be kept. A demand that is not checked must never pass as
/// one that holds: the prompt would be on its way to a machine that the user did not accept.
///
/// # Errors
/// [`UpstreamError::BadRequest`] names the demand; nothing was sent.
pub(crate) fn check(wishes: &Wishes, tee_kind: &str) -> Result<(), UpstreamError> {
    let refuse = |param: &str, message: String| {
        Err(UpstreamError::BadRequest {
            message,
            param: Some(param.into()),
            code: Some("demand_not_met".into()),
        })
    };
    if !wishes.tee_kinds.is_empty() && !wishes.tee_kinds.iter().any(|kind| kind == tee_kind) {
        let here = if tee_kind.is_empty() { "none" } else { tee_kind };
        return refuse(
            "tee",
            format!(
                "The request accepts machines of {} only; the machines of this network show {here}. \
                 Nothing was sent.",
                wishes.tee_kinds.join(", ")
            ),
        );
    }
    if !wishes.verdicts.is_empty() {
        let text =
            "This gateway cannot vouch for single verdicts of a worker yet. Nothing was sent.";
        return refuse("verdicts", text.into());
    }
    Ok(())
}

/// The refusal of a request that demands a receipt from a proxy that carries none.
pub(crate) fn no_receipt() -> UpstreamError {
    UpstreamError::BadRequest {
        message: "The proxy carries no receipts, and the request demands one. Nothing was sent."
            .into(),
        param: Some("receipt".into()),
        code: Some("demand_not_met".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(wishes: &Wishes, tee_kind: &str) -> bool {
        matches!(check(wishes, tee_kind), Err(UpstreamError::BadRequest { .. }))
    }

    #[test]
    fn demands_that_cannot_be_kept_are_refused() {
        let tee = |kind: &str| Wishes { tee_kinds: vec![kind.into()], ..Wishes::default() };
        assert!(!refused(&Wishes::default(), ""));
        assert!(!refused(&tee("simulated"), "simulated"));
        assert!(refused(&tee("tdx"), "simulated"));
        assert!(refused(&tee("tdx"), ""));
        assert!(refused(&Wishes { verdicts: vec!["gpu".into()], ..Wishes::default() }, "tdx"));
    }
}
