//! Text forms for JSON; run with `--features serde`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cocoon_units::{Address, Coefficient, ImageHash, ModelName, Nanoton, Role};

#[test]
fn values_have_readable_forms() {
    let address = Address::new(-1, [3; 32]);
    let json = serde_json::to_string(&address).unwrap();
    assert_eq!(json, format!("\"{address}\""));
    assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
    assert_eq!(serde_json::to_string(&Nanoton(7)).unwrap(), "7");
    assert_eq!(serde_json::to_string(&Role::KeyManager).unwrap(), "\"key-manager\"");
    let hash = ImageHash([9; 32]);
    let json = format!("\"{}\"", hash.to_base64());
    assert_eq!(serde_json::from_str::<ImageHash>(&json).unwrap(), hash);
    assert!(serde_json::from_str::<Coefficient>("1000000000").is_err());
    assert!(serde_json::from_str::<Coefficient>("-1").is_err());
    assert!(serde_json::from_str::<ModelName>("\"\"").is_err());
}
