"""temp"""
from thermokernels.chain import GibbsChain, gibbs_chain
