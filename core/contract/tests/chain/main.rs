//! Our compiled contracts on the real virtual machine with mainnet's fees.

mod attacks;
mod balance_sheet;
mod books;
mod cast;
mod flows;
mod gas;
mod governance;
mod record;
mod report;
mod script;
mod stage;
mod world;
