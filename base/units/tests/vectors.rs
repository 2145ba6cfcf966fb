//! Values computed by others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cocoon_units::{
    Address, AddressForm, Coefficient, ImageHash, ModelName, Multiplier, Nanoton, PriceTable,
    Tokens, Usage, adjust, reserve_tokens,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../testdata/units-vectors.json")).unwrap()
}

fn number(value: &Value, name: &str) -> u64 {
    let field = &value[name];
    field.as_u64().or_else(|| field.as_str()?.parse().ok()).unwrap()
}

fn coefficient(value: &Value, name: &str) -> Coefficient {
    Coefficient::new(value[name].as_i64().unwrap()).unwrap()
}

fn multiplier(value: &Value) -> Multiplier {
    Multiplier(value.as_u64().unwrap().try_into().unwrap())
}

#[test]
fn adjustment_is_that_of_doubles() {
    let vectors = vectors();
    let mut differs = 0;
    for name in ["pricing_adjust", "pricing_double_differs"] {
        for case in vectors[name].as_array().unwrap() {
            let result = adjust(
                number(case, "tokens"),
                coefficient(case, "coefficient"),
                multiplier(&case["multiplier"]),
            );
            assert_eq!(result, Tokens(number(case, "result")), "{case}");
            let exact = case.get("exact_rational_floor").map_or(result.0, |e| e.as_u64().unwrap());
            differs += u32::from(exact != result.0);
        }
    }
    assert!(differs >= 9, "the vectors must contain cases where exact arithmetic is wrong");
}

#[test]
fn requests_cost_what_the_reference_charges() {
    let vectors = vectors();
    let cases = vectors["pricing_requests"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let raw = &case["raw_usage"];
        let usage = Usage {
            prompt: number(raw, "prompt_tokens"),
            cached: number(raw, "cached_tokens"),
            completion: number(raw, "completion_tokens"),
            reasoning: number(raw, "reasoning_tokens"),
        };
        let [prompt, cached, completion, reasoning] =
            [0, 1, 2, 3].map(|n| multiplier(&case["multipliers"][n]));
        let table = PriceTable {
            price_per_token: Nanoton(number(case, "price_per_token")),
            worker_fee_per_token: Nanoton(number(case, "worker_fee_per_token")),
            prompt,
            cached,
            completion,
            reasoning,
        };
        let adjusted = usage.adjusted(coefficient(case, "coefficient"), &table);
        let used = &case["tokens_used"];
        let found = [adjusted.prompt, adjusted.cached, adjusted.completion, adjusted.reasoning];
        let names = ["prompt", "cached", "completion", "reasoning"];
        assert_eq!(found, names.map(|name| Tokens(number(used, name))), "{case}");
        assert_eq!(adjusted.total, Tokens(number(used, "total")), "{case}");
        let (client, worker, proxy) = (
            table.client_pays(adjusted.total).unwrap(),
            table.worker_gets(adjusted.total).unwrap(),
            table.proxy_keeps(adjusted.total).unwrap(),
        );
        assert_eq!(worker.checked_add(proxy), Some(client));
        assert_eq!(client, Nanoton(number(case, "client_pays_nano")), "{case}");
        assert_eq!(worker, Nanoton(number(case, "worker_gets_nano")), "{case}");
        assert_eq!(proxy, Nanoton(number(case, "proxy_gets_nano")), "{case}");
    }
}

#[test]
fn reservation_is_that_of_the_reference() {
    let vectors = vectors();
    for case in vectors["pricing_reservation"].as_array().unwrap() {
        let cap = coefficient(case, "max_coefficient");
        let reserved = reserve_tokens(number(case, "max_tokens"), number(case, "query_bytes"), cap);
        assert_eq!(reserved, Tokens(number(case, "result")));
    }
}

#[test]
fn addresses_have_all_forms() {
    let vectors = vectors();
    let cases = vectors["address_forms"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let address = Address::parse(case["raw"].as_str().unwrap()).unwrap();
        assert_eq!(address.to_raw(), case["raw"].as_str().unwrap());
        let forms = [
            ("nb", AddressForm::NON_BOUNCEABLE),
            ("b", AddressForm::BOUNCEABLE),
            ("nbt", AddressForm::NON_BOUNCEABLE.on_testnet(true)),
            ("bt", AddressForm::BOUNCEABLE.on_testnet(true)),
        ];
        for (name, form) in forms {
            let text = case[name].as_str().unwrap();
            assert_eq!(address.to_friendly(form), text);
            assert_eq!(Address::parse_with_form(text).unwrap(), (address, Some(form)));
            let standard = text.replace('-', "+").replace('_', "/");
            assert_eq!(Address::parse(&standard).unwrap(), address);
            if standard != text {
                let form = AddressForm { url_safe: false, ..form };
                assert_eq!(address.to_friendly(form), standard);
            }
        }
    }
}

#[test]
fn names_and_hashes_are_those_of_the_root_contract() {
    let vectors = vectors();
    let case = &vectors["model_hash"];
    let model = ModelName::new(case["model"].as_str().unwrap()).unwrap();
    assert_eq!(ImageHash(model.hash()).to_string(), case["sha256"].as_str().unwrap());
    assert_eq!((model.base(), model.commit()), ("Qwen/Qwen3-32B", Some("abc")));
    let case = &vectors["image_hash"];
    let hash = ImageHash::parse(case["fake_or_empty_tdx"].as_str().unwrap()).unwrap();
    assert_eq!(hash.to_base64(), case["fake_or_empty_tdx_base64"].as_str().unwrap());
    assert_eq!(ImageHash::parse(&hash.to_base64()).unwrap(), hash);
}
