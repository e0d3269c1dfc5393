"""How the weights of a model are learnt."""
