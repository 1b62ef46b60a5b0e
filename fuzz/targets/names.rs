//! Any octets as a DNS answer, as `resolv.conf`, as hosts file, as URL.
#![no_main]

use hailpost::net::{resolver::Config, url::Url};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let _ = hailpost::wire::dns::decode(octets);
    let text = String::from_utf8_lossy(octets);
    let _ = Config::parse(&text, &text);
    if let Ok(url) = text.parse::<Url>() {
        assert_eq!(url.to_string().parse::<Url>().expect("what we write reads back"), url);
    }
});
