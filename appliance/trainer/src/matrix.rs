//! Views of matrices, and their product.

use std::marker::PhantomData;
use std::ops::Range;

/// A matrix to read: element (i, j) is at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// The matrix whose rows of `columns` elements follow each other.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// The matrix whose rows of `columns` elements begin each `stride` elements.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            rows == 0 || (rows - 1) * stride + columns <= data.len(),
            "a matrix goes beyond its data"
        );
        Self {
            data,
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// The rows become columns.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of the columns.
    pub fn columns(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns beyond the matrix"
        );
        let data = self
            .data
            .get(range.start * self.column_stride..)
            .unwrap_or_default();
        Self {
            data,
            columns: range.len(),
            ..self
        }
    }

    /// Some of the rows.
    pub fn rows(self, range: Range<usize>) -> Self {
        self.transposed().columns(range).transposed()
    }
}

/// A matrix to write, whose parts may be written by several threads at once.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may be sent. That parts used by several threads at once do not overlap
// is what the unsafe functions demand.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// The matrix whose rows of `columns` elements follow each other.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// The matrix whose rows of `columns` elements begin each `stride` elements.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            rows == 0 || (rows - 1) * stride + columns <= data.len(),
            "a matrix goes beyond its data"
        );
        Self {
            data: data.as_mut_ptr(),
            rows,
            columns,
            row_stride: stride,
            column_stride: 1,
            lent: PhantomData,
        }
    }

    /// Some of the columns.
    pub fn columns(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns beyond the matrix"
        );
        let data = self.data.wrapping_add(range.start * self.column_stride);
        Self {
            data,
            columns: range.len(),
            ..self
        }
    }

    /// Some of the rows.
    pub fn rows(self, range: Range<usize>) -> Self {
        self.transposed().columns(range).transposed()
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// One row, whose elements must follow each other.
    ///
    /// # Safety
    ///
    /// While the slice is there, nobody else may use any element of the row.
    pub unsafe fn row(self, row: usize) -> &'a mut [f32] {
        assert!(row < self.rows && self.column_stride == 1, "no such row");
        // SAFETY: the row is within the data by the construction of the view and the assertion; by this function's
        // demand nobody else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.row_stride), self.columns) }
    }

    /// `self = scale · left · right`, or with `add` that much more than it was.
    ///
    /// # Safety
    ///
    /// During the call nobody else may use any element of this matrix.
    pub unsafe fn product(self, add: bool, scale: f32, left: View<'_>, right: View<'_>) {
        assert!(
            left.rows == self.rows && right.columns == self.columns && left.columns == right.rows,
            "shapes of a product"
        );
        // The kernels prefer results whose columns' elements follow each other.
        let (to, left, right) = if self.column_stride < self.row_stride {
            (self.transposed(), right.transposed(), left.transposed())
        } else {
            (self, left, right)
        };
        let stride = |stride: usize| stride.cast_signed();
        // SAFETY: each view was checked against its data when it was made, and parts of views lie within them; the
        // shapes fit. `left` and `right` are shared references; `self` is nobody else's by this function's demand.
        unsafe {
            gemm_f32::gemm::f32::get_gemm_fn()(
                to.rows,
                to.columns,
                left.columns,
                to.data,
                stride(to.column_stride),
                stride(to.row_stride),
                add,
                left.data.as_ptr(),
                stride(left.column_stride),
                stride(left.row_stride),
                right.data.as_ptr(),
                stride(right.column_stride),
                stride(right.row_stride),
                1.0,
                scale,
                false,
                false,
                false,
                gemm_common::Parallelism::None,
            );
        }
    }
}

/// `to = scale · left · right`, or with `add` that much more than it was; `to` is a matrix without gaps.
pub fn product(to: &mut [f32], add: bool, scale: f32, left: View<'_>, right: View<'_>) {
    // SAFETY: `to` is borrowed for the time of the call.
    unsafe { Target::new(to, left.rows, right.columns).product(add, scale, left, right) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn naive(left: View<'_>, right: View<'_>, i: usize, j: usize) -> f64 {
        let at = |view: View<'_>, i, j| f64::from(view.data[i * view.row_stride + j * view.column_stride]);
        (0..left.columns).map(|k| at(left, i, k) * at(right, k, j)).sum()
    }

    #[test]
    fn products_of_all_layouts_are_right() {
        let mut random = Random::new(1);
        for (m, n, k) in [
            (1, 1, 1),
            (3, 5, 7),
            (33, 17, 8),
            (64, 130, 100),
            (5, 1, 40),
            (1, 9, 64),
            (70, 40, 2),
        ] {
            for layout in 0..8 {
                let (a, b) = (random.normals(m * k, 1.0), random.normals(k * n, 1.0));
                let left = if layout & 1 == 0 {
                    View::new(&a, m, k)
                } else {
                    View::new(&a, k, m).transposed()
                };
                let right = if layout & 2 == 0 {
                    View::new(&b, k, n)
                } else {
                    View::new(&b, n, k).transposed()
                };
                let before = random.normals(m * n, 1.0);
                let mut to = before.clone();
                let add = layout & 4 != 0;
                product(&mut to, add, 0.5, left, right);
                for i in 0..m {
                    for j in 0..n {
                        let start = if add { f64::from(before[i * n + j]) } else { 0.0 };
                        let expected = start + 0.5 * naive(left, right, i, j);
                        let value = f64::from(to[i * n + j]);
                        assert!(
                            (value - expected).abs() < 1e-4,
                            "{m} {n} {k} {layout}: {value} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn parts_are_written_alone() {
        let (a, b) = ([1.0; 6], [1.0; 6]);
        let mut to = [7.0; 20];
        // SAFETY: `to` is used by nobody else.
        unsafe {
            Target::new(&mut to, 4, 5).columns(1..3).rows(1..3).product(
                false,
                1.0,
                View::new(&a, 2, 3),
                View::new(&b, 3, 2),
            );
        }
        let expected = [
            7., 7., 7., 7., 7., 7., 3., 3., 7., 7., 7., 3., 3., 7., 7., 7., 7., 7., 7., 7.,
        ];
        assert_eq!(to, expected);
    }

    #[test]
    #[should_panic(expected = "beyond its data")]
    fn a_matrix_beyond_its_data_is_refused() {
        View::new(&[0.0; 5], 2, 3);
    }
}
