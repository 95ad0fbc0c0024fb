//! A QR code as another program reads it off the screen.

/// Reads the code among other lines.
pub fn read(text: &str) -> String {
    const SCALE: usize = 4;
    let blocks = |line: &&str| line.contains('█');
    let lines: Vec<&str> = text.lines().filter(blocks).collect();
    let mut rows: Vec<Vec<bool>> = Vec::new();
    for line in &lines {
        let dark = |upper: bool| -> Vec<bool> {
            let of = |c| match c {
                '█' => false,
                '▀' => !upper,
                '▄' => upper,
                ' ' => true,
                other => panic!("{other:?}"),
            };
            line.chars().map(of).collect()
        };
        rows.extend([dark(true), dark(false)]);
    }
    let (width, height) = (rows[0].len(), rows.len());
    let mut image = rqrr::PreparedImage::prepare_from_bitmap(width * SCALE, height * SCALE, |x, y| {
        rows[y / SCALE][x / SCALE]
    });
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1, "{text}");
    grids[0].decode().unwrap().1
}
