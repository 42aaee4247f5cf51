//! Writes `docs/contract.md` from the comments in `wit/`; `cargo xtask contract` starts it.

use witgate_tests::contract_page;

fn main() {
    let path = contract_page::path();
    std::fs::write(&path, contract_page::text()).unwrap();
    println!("wrote {}", path.display());
}
