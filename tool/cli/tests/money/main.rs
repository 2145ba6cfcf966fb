//! What a person does with money, with the real program over real sockets.

mod channels;
mod desk;
mod help;
mod mistakes;
mod registry;
mod torn;
mod wallets;
