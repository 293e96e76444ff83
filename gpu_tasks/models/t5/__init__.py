"""T5's encoder on packed tokens: ProtT5, ProstT5, Ankh, sentence-t5, gtr-t5, flan-t5 and mT5.

`encoder` computes it, `buckets` says which distances share a bias, `attention` attends with it, and
`weight_names` knows what the weights are called, without torch.
"""
