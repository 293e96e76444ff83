"""The one table of publications that run cards cite, by their BibTeX keys.

Only what its publisher, arXiv or its authors themselves say stands here: a wrong citation is worse than none.
"""

from queue_app.outputs.run_card.publication import Publication

_ACL = "Annual Meeting of the Association for Computational Linguistics"
_EMNLP = "Conference on Empirical Methods in Natural Language Processing"
_NEURIPS = "Advances in Neural Information Processing Systems"
_ICLR = "International Conference on Learning Representations"


def holdfast(version: str) -> Publication:
    """Holdfast itself, as CITATION.cff has it."""
    return Publication(
        authors="The Holdfast developers",
        year=None,
        title="Holdfast: crash-safe batch embedding inference",
        version=version,
    )


PUBLICATIONS = {
    # ---- proteins
    "lin2023esm2": Publication(
        authors="Lin, Z.; Akin, H.; Rao, R.; Hie, B.; Zhu, Z.; Lu, W.; Smetanin, N.; Verkuil, R.; "
        "Kabeli, O.; Shmueli, Y.; dos Santos Costa, A.; Fazel-Zarandi, M.; Sercu, T.; Candido, S.; Rives, A.",
        year=2023,
        title="Evolutionary-scale prediction of atomic-level protein structure with a language model",
        venue="Science", volume="379", number="6637", pages="1123-1130", doi="10.1126/science.ade2574",
    ),
    "rives2021esm1b": Publication(
        authors="Rives, A.; Meier, J.; Sercu, T.; Goyal, S.; Lin, Z.; Liu, J.; Guo, D.; Ott, M.; "
        "Zitnick, C. L.; Ma, J.; Fergus, R.",
        year=2021,
        title="Biological structure and function emerge from scaling unsupervised learning to 250 million "
        "protein sequences",
        venue="Proceedings of the National Academy of Sciences", volume="118", number="15",
        pages="e2016239118", doi="10.1073/pnas.2016239118",
    ),
    "meier2021esm1v": Publication(
        authors="Meier, J.; Rao, R.; Verkuil, R.; Liu, J.; Sercu, T.; Rives, A.",
        year=2021,
        title="Language models enable zero-shot prediction of the effects of mutations on protein function",
        venue=_NEURIPS, volume="34", pages="29287-29303", is_in_proceedings=True,
        url="https://www.biorxiv.org/content/10.1101/2021.07.09.450648",
    ),
    "esm2024cambrian": Publication(
        authors="ESM Team",
        year=2024,
        title="ESM Cambrian: Revealing the mysteries of proteins with unsupervised learning",
        venue="EvolutionaryScale website", url="https://evolutionaryscale.ai/blog/esm-cambrian",
    ),
    "elnaggar2022prottrans": Publication(
        authors="Elnaggar, A.; Heinzinger, M.; Dallago, C.; Rehawi, G.; Wang, Y.; Jones, L.; Gibbs, T.; "
        "Feher, T.; Angerer, C.; Steinegger, M.; Bhowmik, D.; Rost, B.",
        year=2022,
        title="ProtTrans: Toward Understanding the Language of Life Through Self-Supervised Learning",
        venue="IEEE Transactions on Pattern Analysis and Machine Intelligence", volume="44", number="10",
        pages="7112-7127", doi="10.1109/TPAMI.2021.3095381",
    ),
    "heinzinger2024prostt5": Publication(
        authors="Heinzinger, M.; Weissenow, K.; Sanchez, J. G.; Henkel, A.; Mirdita, M.; Steinegger, M.; "
        "Rost, B.",
        year=2024,
        title="Bilingual language model for protein sequence and structure",
        venue="NAR Genomics and Bioinformatics", volume="6", number="4", pages="lqae150",
        doi="10.1093/nargab/lqae150",
    ),
    "elnaggar2023ankh": Publication(
        authors="Elnaggar, A.; Essam, H.; Salah-Eldin, W.; Moustafa, W.; Elkerdawy, M.; Rochereau, C.; "
        "Rost, B.",
        year=2023,
        title="Ankh: Optimized Protein Language Model Unlocks General-Purpose Modelling",
        arxiv="2301.06568",
    ),
    "su2024saprot": Publication(
        authors="Su, J.; Han, C.; Zhou, Y.; Shan, J.; Zhou, X.; Yuan, F.",
        year=2024,
        title="SaProt: Protein Language Modeling with Structure-aware Vocabulary",
        venue=_ICLR, url="https://openreview.net/forum?id=6MRm3G4NiU", is_in_proceedings=True,
    ),
    "barton2024antiberta2": Publication(
        authors="Barton, J.; Galson, J. D.; Leem, J.",
        year=2024,
        title="Enhancing Antibody Language Models with Structural Information",
        venue="bioRxiv", doi="10.1101/2023.12.12.569610",
    ),
    "kenlay2024igbert": Publication(
        authors="Kenlay, H.; Dreyer, F. A.; Kovaltsuk, A.; Miketa, D.; Pires, D.; Deane, C. M.",
        year=2024,
        title="Large scale paired antibody language models",
        venue="PLOS Computational Biology", volume="20", number="12", pages="e1012646",
        doi="10.1371/journal.pcbi.1012646",
    ),
    # ---- DNA
    "dallatorre2025nt": Publication(
        authors="Dalla-Torre, H.; Gonzalez, L.; Mendoza-Revilla, J.; Lopez Carranza, N.; "
        "Grzywaczewski, A. H.; Oteri, F.; Dallago, C.; Trop, E.; de Almeida, B. P.; Sirelkhatim, H.; "
        "Richard, G.; Skwark, M.; Beguir, K.; Lopez, M.; Pierrot, T.",
        year=2025,
        title="Nucleotide Transformer: building and evaluating robust foundation models for human genomics",
        venue="Nature Methods", volume="22", number="2", pages="287-297", doi="10.1038/s41592-024-02523-z",
    ),
    "ji2021dnabert": Publication(
        authors="Ji, Y.; Zhou, Z.; Liu, H.; Davuluri, R. V.",
        year=2021,
        title="DNABERT: pre-trained Bidirectional Encoder Representations from Transformers model for "
        "DNA-language in genome",
        venue="Bioinformatics", volume="37", number="15", pages="2112-2120",
        doi="10.1093/bioinformatics/btab083",
    ),
    "zhou2024dnabert2": Publication(
        authors="Zhou, Z.; Ji, Y.; Li, W.; Dutta, P.; Davuluri, R. V.; Liu, H.",
        year=2024,
        title="DNABERT-2: Efficient Foundation Model and Benchmark For Multi-Species Genome",
        venue=_ICLR, arxiv="2306.15006", is_in_proceedings=True,
    ),
    "zhou2024dnaberts": Publication(
        authors="Zhou, Z.; Wu, W.; Ho, H.; Wang, J.; Shi, L.; Davuluri, R. V.; Wang, Z.; Liu, H.",
        year=2024,
        title="DNABERT-S: Learning Species-Aware DNA Embedding with Genome Foundation Models",
        arxiv="2402.08777",
    ),
    # ---- texts
    "reimers2019sbert": Publication(
        authors="Reimers, N.; Gurevych, I.",
        year=2019,
        title="Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks",
        venue=_EMNLP, pages="3982-3992", doi="10.18653/v1/D19-1410", is_in_proceedings=True,
    ),
    "wang2020minilm": Publication(
        authors="Wang, W.; Wei, F.; Dong, L.; Bao, H.; Yang, N.; Zhou, M.",
        year=2020,
        title="MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained "
        "Transformers",
        venue=_NEURIPS, volume="33", pages="5776-5788", arxiv="2002.10957", is_in_proceedings=True,
    ),
    "song2020mpnet": Publication(
        authors="Song, K.; Tan, X.; Qin, T.; Lu, J.; Liu, T.-Y.",
        year=2020,
        title="MPNet: Masked and Permuted Pre-training for Language Understanding",
        venue=_NEURIPS, volume="33", pages="16857-16867", arxiv="2004.09297", is_in_proceedings=True,
    ),
    "wang2022e5": Publication(
        authors="Wang, L.; Yang, N.; Huang, X.; Jiao, B.; Yang, L.; Jiang, D.; Majumder, R.; Wei, F.",
        year=2022,
        title="Text Embeddings by Weakly-Supervised Contrastive Pre-training",
        arxiv="2212.03533",
    ),
    "wang2024me5": Publication(
        authors="Wang, L.; Yang, N.; Huang, X.; Yang, L.; Majumder, R.; Wei, F.",
        year=2024,
        title="Multilingual E5 Text Embeddings: A Technical Report",
        arxiv="2402.05672",
    ),
    "xiao2023bge": Publication(
        authors="Xiao, S.; Liu, Z.; Zhang, P.; Muennighoff, N.; Lian, D.; Nie, J.-Y.",
        year=2023,
        title="C-Pack: Packed Resources For General Chinese Embeddings",
        arxiv="2309.07597",
    ),
    "devlin2019bert": Publication(
        authors="Devlin, J.; Chang, M.-W.; Lee, K.; Toutanova, K.",
        year=2019,
        title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        venue="Conference of the North American Chapter of the Association for Computational Linguistics",
        pages="4171-4186", doi="10.18653/v1/N19-1423", is_in_proceedings=True,
    ),
    "liu2019roberta": Publication(
        authors="Liu, Y.; Ott, M.; Goyal, N.; Du, J.; Joshi, M.; Chen, D.; Levy, O.; Lewis, M.; "
        "Zettlemoyer, L.; Stoyanov, V.",
        year=2019,
        title="RoBERTa: A Robustly Optimized BERT Pretraining Approach",
        arxiv="1907.11692",
    ),
    "conneau2020xlmr": Publication(
        authors="Conneau, A.; Khandelwal, K.; Goyal, N.; Chaudhary, V.; Wenzek, G.; Guzmán, F.; Grave, E.; "
        "Ott, M.; Zettlemoyer, L.; Stoyanov, V.",
        year=2020,
        title="Unsupervised Cross-lingual Representation Learning at Scale",
        venue=_ACL, pages="8440-8451", doi="10.18653/v1/2020.acl-main.747", is_in_proceedings=True,
    ),
    "martin2020camembert": Publication(
        authors="Martin, L.; Muller, B.; Ortiz Suárez, P. J.; Dupont, Y.; Romary, L.; de la Clergerie, É.; "
        "Seddah, D.; Sagot, B.",
        year=2020,
        title="CamemBERT: a Tasty French Language Model",
        venue=_ACL, pages="7203-7219", doi="10.18653/v1/2020.acl-main.645", is_in_proceedings=True,
    ),
    "warner2024modernbert": Publication(
        authors="Warner, B.; Chaffin, A.; Clavié, B.; Weller, O.; Hallström, O.; Taghadouini, S.; "
        "Gallagher, A.; Biswas, R.; Ladhak, F.; Aarsen, T.; Cooper, N.; Adams, G.; Howard, J.; Poli, I.",
        year=2024,
        title="Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder for Fast, Memory Efficient, "
        "and Long Context Finetuning and Inference",
        arxiv="2412.13663",
    ),
    # ---- software and methods
    "rao2021contacts": Publication(
        authors="Rao, R.; Meier, J.; Sercu, T.; Ovchinnikov, S.; Rives, A.",
        year=2021,
        title="Transformer protein language models are unsupervised structure learners",
        venue=_ICLR, is_in_proceedings=True,
        url="https://www.biorxiv.org/content/10.1101/2020.12.15.422761",
    ),
    "hu2022lora": Publication(
        authors="Hu, E. J.; Shen, Y.; Wallis, P.; Allen-Zhu, Z.; Li, Y.; Wang, S.; Wang, L.; Chen, W.",
        year=2022,
        title="LoRA: Low-Rank Adaptation of Large Language Models",
        venue=_ICLR, arxiv="2106.09685", is_in_proceedings=True,
    ),
    "paszke2019pytorch": Publication(
        authors="Paszke, A.; Gross, S.; Massa, F.; Lerer, A.; Bradbury, J.; Chanan, G.; Killeen, T.; "
        "Lin, Z.; Gimelshein, N.; Antiga, L.; Desmaison, A.; Köpf, A.; Yang, E.; DeVito, Z.; Raison, M.; "
        "Tejani, A.; Chilamkurthy, S.; Steiner, B.; Fang, L.; Bai, J.; Chintala, S.",
        year=2019,
        title="PyTorch: An Imperative Style, High-Performance Deep Learning Library",
        venue=_NEURIPS, volume="32", pages="8024-8035", arxiv="1912.01703", is_in_proceedings=True,
    ),
    "wolf2020transformers": Publication(
        authors="Wolf, T.; Debut, L.; Sanh, V.; Chaumond, J.; Delangue, C.; Moi, A.; Cistac, P.; Rault, T.; "
        "Louf, R.; Funtowicz, M.; Davison, J.; Shleifer, S.; von Platen, P.; Ma, C.; Jernite, Y.; Plu, J.; "
        "Xu, C.; Le Scao, T.; Gugger, S.; Drame, M.; Lhoest, Q.; Rush, A. M.",
        year=2020,
        title="Transformers: State-of-the-Art Natural Language Processing",
        venue=f"{_EMNLP}: System Demonstrations", pages="38-45", doi="10.18653/v1/2020.emnlp-demos.6",
        is_in_proceedings=True,
    ),
}  # fmt: skip
