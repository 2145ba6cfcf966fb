//! Addresses as people type them.

use anyhow::Result;
use cocoon_units::{Address, AddressForm};
use cocoon_wallet::WalletDir;

use super::access::Coins;
use crate::mistake;

/// An address, and the form it was typed in. An address of the test network is refused where
/// coins are real.
pub(crate) fn parse(text: &str, coins: Coins) -> Result<(Address, Option<AddressForm>)> {
    let (address, form) =
        Address::parse_with_form(text).map_err(|fault| mistake(format_args!("{text}: {fault}")))?;
    if address.workchain != 0 {
        return Err(mistake(format_args!(
            "{text} is on workchain {}: only accounts of workchain 0 are served here",
            address.workchain
        )));
    }
    if form.is_some_and(|form| form.testnet) && coins == Coins::Mainnet {
        return Err(mistake(format_args!(
            "{text} is written for the test network, and this is mainnet"
        )));
    }
    Ok((address, form))
}

/// An address, or the name of a wallet.
pub(crate) fn parse_or_wallet(text: &str, wallets: &WalletDir, coins: Coins) -> Result<Address> {
    if let Ok(file) = wallets.load(text) {
        return Ok(file.wallet().address()?);
    }
    Ok(parse(text, coins)?.0)
}
