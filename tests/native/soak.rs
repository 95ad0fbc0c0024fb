//! A minute of what `scripts/soak` does for hours.

use std::process::Command;

use anyhow::Result;
use sarai_tests::process::output_of;
use sarai_tests::tree;

#[test]
fn a_minute_of_mixed_load_and_pressure_loses_no_request_and_leaves_nothing_behind() -> Result<()> {
    let _alone = tree::alone();
    let table = output_of(Command::new(tree::program("sarai-soak")?).args(["--seconds", "60"]))?;
    println!("{table}");
    Ok(())
}
