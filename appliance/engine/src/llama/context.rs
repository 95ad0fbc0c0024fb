//! A context: the KV cache of every slot and the computation over it.

use std::ptr::NonNull;
use std::rc::Rc;

use llama_cpp_sys_2 as sys;
use sarai_wire::birth::KvType;

use super::LlamaError;
use super::adapter::Adapter;
use super::backend::take_complaints;
use super::batch::Batch;
use super::model::Model;
use super::threadpool::Threadpool;

/// llama.cpp rounds the cells of a sequence up to this many.
const CELLS: u32 = 256;

/// LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY, which the bindings leave out: a state without what can be cut at its end.
const PARTIAL_ONLY: sys::llama_state_seq_flags = 1;

/// What a context is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextParams {
    /// Tokens of one sequence.
    pub context: u32,
    /// Sequences.
    pub slots: u32,
    /// Most tokens in one [`Batch`].
    pub batch: u32,
    /// Most tokens of one batch whose logits are kept; at least one a slot.
    pub rows: u32,
    /// Element type of the KV cache.
    pub kv_type: KvType,
}

/// KV cache and compute buffers. Used by one thread, the one that made the [`Threadpool`].
pub struct Context<'model> {
    context: NonNull<sys::llama_context>,
    vocabulary: usize,
    rows: usize,
    params: ContextParams,
    /// Lives as long as the context may use it.
    threads: &'model Threadpool,
    model: &'model Model,
    /// Added to the model's matrices by every step. Held as long as it is.
    adapter: Option<Rc<Adapter<'model>>>,
}

impl<'model> Context<'model> {
    /// Makes a context that computes on `threads`.
    ///
    /// # Errors
    /// [`LlamaError::Context`] when memory is short, the model cannot be run this way, or has contexts on another thread.
    pub fn new(
        model: &'model Model,
        threads: &'model Threadpool,
        params: ContextParams,
    ) -> Result<Self, LlamaError> {
        if !model.computes_here() {
            return Err(LlamaError::Context("the model computes on another thread".into()));
        }
        let count = i32::try_from(threads.threads()).unwrap_or(i32::MAX);
        let cells = params
            .context
            .checked_next_multiple_of(CELLS)
            .and_then(|cells| cells.checked_mul(params.slots))
            .ok_or_else(|| LlamaError::Context("the context is too large".into()))?;
        take_complaints();
        // SAFETY: returns a plain struct by value.
        let mut raw = unsafe { sys::llama_context_default_params() };
        raw.n_ctx = cells;
        raw.n_batch = params.batch;
        raw.n_ubatch = params.batch.min(512);
        raw.n_seq_max = params.slots;
        // Reserving a row of logits for each token of a batch would cost hundreds of megabytes. One more than this
        // aborts the process.
        raw.n_outputs_max = params.rows.max(params.slots);
        raw.n_threads = count;
        raw.n_threads_batch = count;
        raw.no_perf = true;
        raw.kv_unified = false;
        let (kind, attention) = match params.kv_type {
            KvType::F16 => (sys::GGML_TYPE_F16, sys::LLAMA_FLASH_ATTN_TYPE_AUTO),
            // A quantised V cache exists only with flash attention.
            KvType::Q8_0 => (sys::GGML_TYPE_Q8_0, sys::LLAMA_FLASH_ATTN_TYPE_ENABLED),
        };
        raw.type_k = kind;
        raw.type_v = kind;
        raw.flash_attn_type = attention;
        // SAFETY: the model is valid and outlives the context, which borrows it.
        let context = unsafe { sys::llama_init_from_model(model.as_ptr(), raw) };
        let context = NonNull::new(context)
            .ok_or_else(|| LlamaError::Context(take_complaints().trim_start_matches(": ").to_owned()))?;
        // SAFETY: both are valid; the pool outlives the context, which borrows it.
        unsafe { sys::llama_attach_threadpool(context.as_ptr(), threads.as_ptr(), threads.as_ptr()) };
        Ok(Self {
            context,
            vocabulary: model.vocab().len(),
            rows: params.rows.max(params.slots) as usize,
            params,
            threads,
            model,
            adapter: None,
        })
    }

    /// What it was made for.
    pub fn params(&self) -> ContextParams {
        self.params
    }

    /// Frees this context and makes one for `params` instead, which holds nothing yet. Where that cannot be made, one
    /// as before is, and comes with the reason.
    ///
    /// # Errors
    /// [`LlamaError::Context`] when not even that can be made again.
    pub fn remade(self, params: ContextParams) -> Result<(Self, Option<LlamaError>), LlamaError> {
        let (model, threads, before) = (self.model, self.threads, self.params);
        // First: while memory is short there is no room for both.
        drop(self);
        crate::resident::trim();
        match Self::new(model, threads, params) {
            Ok(context) => Ok((context, None)),
            Err(error) => Ok((Self::new(model, threads, before)?, Some(error))),
        }
    }

    /// The model it is of.
    pub fn model(&self) -> &'model Model {
        self.model
    }

    /// A context besides this one, over the same model and threads: for a try.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn beside(&self, params: ContextParams) -> Result<Self, LlamaError> {
        Self::new(self.model, self.threads, params)
    }

    /// Computes with this adapter, or with none, from the next step on. The KV cache keeps what it holds, which then is
    /// another text's: who changes the adapter decodes other sequences.
    ///
    /// # Errors
    /// [`LlamaError::Adapter`] for one of another model.
    pub fn apply(&mut self, adapter: Option<&Rc<Adapter<'model>>>) -> Result<(), LlamaError> {
        if adapter.is_some_and(|adapter| !adapter.is_of(self.model)) {
            return Err(LlamaError::Adapter("it is of another model".into()));
        }
        let same = match (&self.adapter, adapter) {
            (Some(old), Some(new)) => Rc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if same {
            return Ok(());
        }
        let mut list: Vec<_> = adapter.iter().map(|adapter| adapter.as_ptr()).collect();
        let mut scales = vec![1.0_f32; list.len()];
        // SAFETY: the context is valid, and both lists are as long as is said and not kept. The adapter is of the
        // context's own model and lives until it is no longer applied, because it is held below until then.
        unsafe {
            sys::llama_set_adapters_lora(
                self.context.as_ptr(),
                list.as_mut_ptr(),
                list.len(),
                scales.as_mut_ptr(),
            );
        }
        self.adapter = adapter.cloned();
        Ok(())
    }

    /// Decodes a batch.
    ///
    /// # Errors
    /// [`LlamaError::Decode`]; what the sequences of the batch hold is then unknown and must be cleared.
    pub fn decode(&mut self, batch: &mut Batch) -> Result<(), LlamaError> {
        take_complaints();
        if batch.rows() > self.rows {
            return Err(LlamaError::Decode(
                -1,
                ": too many rows of logits asked for".into(),
            ));
        }
        // SAFETY: the batch is valid during the call, its sequences are below the number of slots.
        let status = unsafe { sys::llama_decode(self.context.as_ptr(), batch.as_raw()) };
        if status == 0 {
            Ok(())
        } else {
            Err(LlamaError::Decode(status, take_complaints()))
        }
    }

    /// Logits after the token at `index` of the last batch, one for each token of the vocabulary; `None` when
    /// they were not asked for.
    pub fn logits(&self, index: usize) -> Option<&[f32]> {
        let index = i32::try_from(index).ok()?;
        // SAFETY: the context is valid; the callee returns null for an index without output.
        let row = unsafe { sys::llama_get_logits_ith(self.context.as_ptr(), index) };
        if row.is_null() {
            return None;
        }
        // SAFETY: a row holds one float for each token of the vocabulary and stays until the next decode, which
        // needs `&mut self`.
        Some(unsafe { std::slice::from_raw_parts(row, self.vocabulary) })
    }

    /// Forgets everything of `sequence` from `position` on. `false` when the model cannot forget a part
    /// (recurrent and hybrid ones); the sequence is then unchanged.
    pub fn forget_from(&mut self, sequence: i32, position: i32) -> bool {
        // SAFETY: the context is valid; the callee checks the numbers.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            sys::llama_memory_seq_rm(memory, sequence, position, -1)
        }
    }

    /// What of `sequence` cannot be cut at its end (the recurrent part of recurrent and hybrid models), as it is now.
    /// `None` when there is nothing of the kind.
    pub fn save(&mut self, sequence: i32) -> Option<Vec<u8>> {
        let (context, flags) = (self.context.as_ptr(), PARTIAL_ONLY);
        // SAFETY: the context is valid; the callee checks the sequence.
        let size = unsafe { sys::llama_state_seq_get_size_ext(context, sequence, flags) };
        let mut state = vec![0; size];
        // SAFETY: the buffer is valid for `size` bytes, and the callee writes no more.
        let written =
            unsafe { sys::llama_state_seq_get_data_ext(context, state.as_mut_ptr(), size, sequence, flags) };
        (size > 0 && written == size).then_some(state)
    }

    /// Brings back what [`Context::save`] of the same sequence returned. Everything behind that position must be
    /// forgotten next; after `false` the whole sequence must.
    pub fn restore(&mut self, sequence: i32, state: &[u8]) -> bool {
        // SAFETY: the context is valid; the buffer is valid for its length, and the callee reads no more and checks
        // what it reads against its own layout.
        let read = unsafe {
            sys::llama_state_seq_set_data_ext(
                self.context.as_ptr(),
                state.as_ptr(),
                state.len(),
                sequence,
                PARTIAL_ONLY,
            )
        };
        read == state.len()
    }

    /// Forgets everything of `sequence`, which every kind of model can.
    pub fn forget(&mut self, sequence: i32) {
        // SAFETY: as above; removing a whole sequence never fails.
        unsafe {
            let memory = sys::llama_get_memory(self.context.as_ptr());
            sys::llama_memory_seq_rm(memory, sequence, -1, -1);
        }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: valid and freed once; the pool is detached first because it is freed by its own owner.
        unsafe {
            sys::llama_detach_threadpool(self.context.as_ptr());
            sys::llama_free(self.context.as_ptr());
        }
    }
}
