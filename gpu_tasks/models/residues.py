"""The letters of protein language models."""

# https://huggingface.co/facebook/esm2_t6_8M_UR50D/blob/main/vocab.txt
ESM2_VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
