//! Get-methods: questions to a contract, answered without a transaction.

use num_bigint::BigInt;
use tycho_types::cell::{Cell, CellBuilder, CellFamily as _, DynCell, HashBytes, Load as _};
use tycho_types::dict::Dict;
use tycho_types::models::{Account, BlockchainConfigParams};
use tycho_vm::{
    BehaviourModifiers, NaN, OwnedCellSlice, RcStackValue, Stack, StackValueType, VmCaller,
    VmGetterArgs,
};

/// Largest nesting of tuples read from or given to a contract.
const TUPLE_DEPTH_MAX: u8 = 64;
/// Most values read from a result, and most cells in given arguments. A few shared tuples can
/// stand for more values than there are atoms; whoever made them gets [`StackEntry::Unsupported`].
const VALUES_MAX: usize = 65_536;

/// A value on the stack of the virtual machine.
#[derive(Clone, Debug, PartialEq)]
pub enum StackEntry {
    /// Nothing.
    Null,
    /// Not a number.
    NotANumber,
    /// A 257-bit integer.
    Int(BigInt),
    /// A cell.
    Cell(Cell),
    /// A slice, as a cell that holds just what is left in it.
    Slice(Cell),
    /// A builder, as the cell it would make.
    Builder(Cell),
    /// A tuple (lists are nested pairs).
    Tuple(Vec<StackEntry>),
    /// A continuation or something nested too deeply: of no use outside.
    Unsupported,
}

/// What a get-method answered.
#[derive(Clone, Debug, PartialEq)]
pub struct GetterOutput {
    /// 0 or 1 is success; 11 usually means that there is no such method, -14 that gas ran out.
    pub exit_code: i32,
    /// Gas used.
    pub gas_used: u64,
    /// The stack, bottom first.
    pub stack: Vec<StackEntry>,
}

/// The number of a get-method: CRC-16 of its name with bit 16 set.
#[must_use]
pub fn method_id(name: &str) -> u32 {
    let crc = name.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    u32::from(crc) | 0x1_0000
}

/// Runs a get-method of an account on the virtual machine, anywhere, without a chain.
///
/// Gas is limited to 1,000,000 as on lite servers. `None` when the account has no code, when an
/// argument has no form on the stack, or when the configuration cannot be read.
#[must_use]
pub fn run_getter(
    config: &BlockchainConfigParams,
    account: &Account,
    now: u32,
    method: u32,
    stack: &[StackEntry],
) -> Option<GetterOutput> {
    let caller = VmCaller {
        libraries: Dict::new(),
        behaviour_modifiers: BehaviourModifiers::default(),
        config: config.clone(),
    };
    let stack: Option<Vec<_>> = stack.iter().map(|entry| to_vm(entry, TUPLE_DEPTH_MAX)).collect();
    let mut args = VmGetterArgs::default();
    args.now = now;
    args.rand_seed = HashBytes::ZERO;
    let output = caller.call_getter_ext(account, method, stack?, &args, None).ok()?;
    Some(GetterOutput {
        exit_code: output.exit_code,
        gas_used: output.gas_used,
        stack: from_stack(&output.stack),
    })
}

/// The form of a stack in cells (`VmStack` of TON's block.tlb); `None` when an entry has none.
#[must_use]
pub fn encode_stack(stack: &[StackEntry]) -> Option<Cell> {
    let items: Option<Vec<_>> = stack.iter().map(|entry| to_vm(entry, TUPLE_DEPTH_MAX)).collect();
    CellBuilder::build_from(Stack { items: items? }).ok()
}

/// Reads a stack from its form in cells; `None` when it is malformed or unreasonably large.
#[must_use]
pub fn decode_stack(cell: &Cell) -> Option<Vec<StackEntry>> {
    if !fits(cell.as_ref(), &mut VALUES_MAX.clone()) {
        return None;
    }
    let stack = Stack::load_from(&mut cell.as_slice().ok()?).ok()?;
    Some(from_stack(&stack.items))
}

/// Whether the tree has at most `left` cells, shared ones counted as often as they are reached:
/// reading a stack visits them so often.
fn fits(cell: &DynCell, left: &mut usize) -> bool {
    let Some(rest) = left.checked_sub(1) else {
        return false;
    };
    *left = rest;
    cell.repr_depth() <= MAX_STACK_DEPTH && cell.references().all(|child| fits(child, left))
}

/// Deepest tree of cells read as a stack.
const MAX_STACK_DEPTH: u16 = 600;

fn from_stack(stack: &[RcStackValue]) -> Vec<StackEntry> {
    let mut left = VALUES_MAX;
    stack.iter().map(|value| from_vm(value, TUPLE_DEPTH_MAX, &mut left)).collect()
}

fn to_vm(entry: &StackEntry, depth: u8) -> Option<RcStackValue> {
    let depth = depth.checked_sub(1)?;
    Some(match entry {
        StackEntry::Null => RcStackValue::new_dyn_value(()),
        StackEntry::NotANumber => RcStackValue::new_dyn_value(NaN),
        StackEntry::Int(value) if value.bits() <= 256 => RcStackValue::new_dyn_value(value.clone()),
        StackEntry::Int(_) | StackEntry::Unsupported => return None,
        StackEntry::Cell(cell) => RcStackValue::new_dyn_value(cell.clone()),
        StackEntry::Slice(cell) => {
            RcStackValue::new_dyn_value(OwnedCellSlice::new_allow_exotic(cell.clone()))
        }
        StackEntry::Builder(cell) => {
            let mut builder = CellBuilder::new();
            builder.store_slice(cell.as_slice().ok()?).ok()?;
            RcStackValue::new_dyn_value(builder)
        }
        StackEntry::Tuple(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| to_vm(item, depth)).collect();
            RcStackValue::new_dyn_value(items.filter(|items| items.len() < 256)?)
        }
    })
}

fn from_vm(value: &RcStackValue, depth: u8, left: &mut usize) -> StackEntry {
    let (Some(depth), Some(rest)) = (depth.checked_sub(1), left.checked_sub(1)) else {
        return StackEntry::Unsupported;
    };
    *left = rest;
    let kind = StackValueType::from_raw(value.raw_ty());
    let entry = match kind {
        Some(StackValueType::Null) => Some(StackEntry::Null),
        Some(StackValueType::Int) => {
            Some(value.as_int().map_or(StackEntry::NotANumber, |int| StackEntry::Int(int.clone())))
        }
        Some(StackValueType::Cell) => value.as_cell().cloned().map(StackEntry::Cell),
        Some(StackValueType::Slice) => value
            .as_cell_slice()
            .and_then(|slice| CellBuilder::build_from(slice.apply()).ok())
            .map(StackEntry::Slice),
        Some(StackValueType::Builder) => value
            .as_cell_builder()
            .and_then(|builder| builder.clone().build_ext(Cell::empty_context()).ok())
            .map(StackEntry::Builder),
        Some(StackValueType::Tuple) => value
            .as_tuple()
            .map(|items| items.iter().map(|item| from_vm(item, depth, left)).collect())
            .map(StackEntry::Tuple),
        Some(StackValueType::Cont) | None => None,
    };
    entry.unwrap_or(StackEntry::Unsupported)
}
