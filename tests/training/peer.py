"""A training by PyTorch, transformers and PEFT, to measure sarai-trainer beside.

The same shape (SmolLM2-135M, in single precision, random weights), the same rank, weights, rows and threads. Reads the
same data set and prints what it took as JSON. Loads nothing from anywhere.
"""

import argparse
import json
import time


def memory(field):
    """A field of this process's account of its memory, bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise KeyError(field)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--alpha", type=int, required=True)
    parser.add_argument("--checkpointing", action="store_true")
    given = parser.parse_args()

    import peft
    import torch
    import transformers

    torch.set_num_threads(given.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    imported = memory("VmRSS")

    with open(given.data, encoding="ascii") as lines:
        rows = [json.loads(line)["tokens"] for line in list(lines)[1:]]
    shape = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_theta=100000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(shape).to(torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = peft.LoraConfig(
        r=given.rank, lora_alpha=given.alpha, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"
    )
    if given.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model = peft.get_peft_model(model, lora)
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    seconds, losses = [], []
    for row in rows:
        tokens = torch.tensor([row])
        begin = time.perf_counter()
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        seconds.append(time.perf_counter() - begin)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    # The first row also pays for what is done once.
    tokens = sum(len(row) for row in rows[1:])
    print(
        json.dumps(
            {
                "tokens_per_second": tokens / sum(seconds[1:]),
                "parameters": sum(parameter.numel() for parameter in parameters),
                "losses": losses,
                "peak": memory("VmHWM"),
                "imported": imported,
                "versions": {
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                    "peft": peft.__version__,
                },
            }
        )
    )


main()
